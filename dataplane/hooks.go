package dataplane

// Hooks are told what a queue alone sees of its frames. A queue without hooks pays a
// load and a comparison for each. They are called where the queue is worked on: Peeked
// by the owner's receiving side, the others by its sending side.
type Hooks struct {
	// Peeked: n frames were taken from the RX ring, the first of them from slot, or, with
	// the slot -1, from the backlog; left wait behind them.
	Peeked func(slot, n, left int)
	// Kicking: frames are about to be handed to the kernel, up to the one that was counted
	// last, which is the number frames, in n descriptors.
	Kicking func(frames uint64, n int)
	// Kicked: that took so many system calls; left descriptors were not taken. With sender they
	// are the sender's to send, whose calls nobody is told of.
	Kicked func(calls, left int, sender bool)
	// Reaped: the kernel has sent n frames more, up to the number frames: they leave in
	// the order of their numbers.
	Reaped func(frames uint64, n int)
}

// SetHooks makes h be told from now on; nil: nobody. Any goroutine may call it: a call
// of the former hooks that is under way goes on. All fields of h are set.
func (q *Queue) SetHooks(h *Hooks) { q.hooks.Store(h) }
