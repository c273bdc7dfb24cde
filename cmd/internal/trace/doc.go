// Package trace follows requests through every buffer, queue, wake-up and copy.
//
// Each layer tells what it alone sees, by hooks that are nil when there is no trace:
// dataplane the batches of the RX ring, kicks and completions; stack the segments of
// each connection, and when a connection became ready; proxy the steps of an exchange. A
// worker's [Recorder] joins them by connection into one time line for each request
// that is followed (recorder.go, line.go), and puts finished ones into its ring of a
// feed (package feed). The master writes them as lines of JSON ([Session]), which the
// command prints ([Print]) or draws ([Draw]).
//
// Whether a request is followed is decided when its head is complete. What came before
// is kept for a while, while the request that will be followed is near: the last received
// frames with payload in a ring of fixed size, and when each connection became ready. At
// all times handshakes under way are kept in a table of fixed size, and what is known of
// its handshake with each connection that was accepted since the trace began.
//
// So with few samples ([Options].Sample) most requests cost a worker next to nothing:
// BenchmarkFollowed says how much. All others pay for notes of what comes before, and
// with [Options].Slower for being followed, since only their end can tell.
//
// Times are read for each event from the monotonic clock, in nanoseconds; a reading
// takes some 30 ns here. A received frame has the time at which the loop took its batch
// from the RX ring: the kernel does not tell when it put it there. The frames of a
// sent batch leave in the order of the TX ring while the kick lasts.
//
// Not seen: frames that take netstack's stock way (IP options, fragments), and what the
// kernel does before the RX ring and behind the TX ring.
package trace
