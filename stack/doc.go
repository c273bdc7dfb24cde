// Package stack is a worker's TCP: gVisor's netstack on AF_XDP queues, offered
// to the event loop above as the system calls an event-driven server knows.
//
// # The frame's way
//
//  1. XDP steers the frame to the queue's socket (package bpf).
//  2. An RX descriptor makes the frame the worker's (package dataplane).
//  3. [Stack.Turn] injects the batch: one copy from UMEM into a pooled view,
//     then the frame goes back to the fill ring (receive.go). What belongs to
//     another worker is handed over to it instead (handover.go).
//  4. What is next on an established connection TCP processes there and then
//     (established.go); for the rest netstack's processor runs. Both fill receive
//     buffers, and notifications append connections to the [Poller]'s ready list
//     (poller.go).
//  5. The loop drains the ready list: [Conn.Read], [Conn.Write] until
//     [ErrWouldBlock] (conn.go).
//  6. netstack's segments are written once, headers and payload, straight into
//     TX frames (transmit.go), and what fits in one of them without netstack's
//     writing it first (established_out.go); pure ACKs are held for a moment
//     (ackhold.go).
//  7. [Stack.Flush] publishes and kicks once a queue and turn.
//  8. Completed TX frames return to the free list when frames are reserved.
//
// # System calls and their counterparts
//
//	socket+setsockopt+bind+listen   Stack.Listen
//	accept4(SOCK_NONBLOCK)          Listener.Accept
//	connect, EINPROGRESS            Stack.Connect
//	read, write                     Conn.Read, Conn.Write
//	getsockopt(SO_ERROR)            Conn.Err
//	shutdown(SHUT_WR)               Conn.CloseWrite
//	close                           Conn.Close
//	close with SO_LINGER 0          Conn.Abort
//	epoll_ctl with EPOLLET          Poller.AddConn, ModConn, AddListener
//	epoll_wait                      Poller.Wait (ready list), Stack.Sleep (blocking)
//
// # Several workers
//
// Each worker has a Stack of its own, on its own queues of the same interfaces,
// with the same addresses and listeners. A connection lives in one of them. The
// local ports of backend connections are divided ([PortBlock]), and chosen so
// that replies come in at the right worker ([Placement]); what comes in at a
// wrong one is handed over ([Handover]).
//
// # Looking on
//
// A [Tap] is shown every frame that comes in, with what became of it, and every
// frame that leaves, as it leaves. Without one that costs a branch a frame.
//
// # Ownership
//
// One goroutine, the loop, owns a [Stack] and everything it hands out; only
// [Stack.Wake] may be called from others. netstack's own processor goroutine
// runs while the loop yields; what it shares with the loop (TX side of a link,
// ready list, timers) is locked, because the runtime may preempt it anywhere.
// With GOMAXPROCS=1 none of these locks is ever contended.
//
// # Faults of netstack that are made good here
//
//   - It can lose its retransmission timer after a loss, and the connection
//     stalls for good (rearm.go).
//   - It takes the wait for a lost SYN for the round trip (handshake.go).
//   - It keeps the smaller congestion window after a recovery from a loss that was none
//     (undo.go).
//   - Of two segments sent at one time it takes one for lost (clock.go).
//
// All but the last need fields that netstack does not export, as the short way of
// established connections does; sender_unsafe.go and segment_unsafe.go find them by name,
// and panic at the start of a program whose netstack has others.
//
// # Not done here
//
// ARP and neighbour discovery stay with the kernel; a link asks a [Resolver].
// There is no forwarding and no UDP.
package stack
