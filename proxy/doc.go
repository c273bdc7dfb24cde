// Package proxy is the event-driven worker of the reverse proxy: one loop that
// accepts clients, parses their requests, relays them to backends and relays the
// responses, on the non-blocking connections of package stack.
//
// # The frame's way
//
// The numbers are those of packages bpf, dataplane and stack.
//
//  1. XDP steers the frame to the queue's socket.
//  2. An RX descriptor makes the frame the worker's.
//  3. [stack.Stack.Turn] injects the batch into netstack.
//  4. netstack fills receive buffers and marks connections ready.
//  5. [Worker.Run] drains the ready list. A session reads until nothing is left
//     or there is no room, parses, routes, and writes until the connection
//     would block.
//  6. What was written leaves as segments in TX frames.
//  7. [stack.Stack.Flush] kicks once a queue and turn.
//  8. Completed frames return.
//
// # Objects
//
//	Worker ── listener ── session (client connection)
//	   │                     │ one at a time
//	   │                  exchange: request ──► flow ──► backend connection
//	   │                            response ◄── flow ◄──     │
//	   └── upstream.Group ── Server ── pool of idle ones ◄────┘
//
// A session (session.go) lives as long as the client's connection. An exchange
// (exchange.go) lives from the first byte of a request to the last byte of its
// response and ties the session to a backend (backend.go), as nginx's request
// does. Each of its two directions is a flow (flow.go). When the backend agrees to
// an upgrade or to CONNECT the exchange becomes a tunnel (tunnel.go), which ends
// with both connections.
//
// # How the state machine is kept simple
//
// Events only set flags on the connection (readable, writable), then everything
// that can be done for the session is done, in both directions, until neither
// moves (exchange.pump). So it makes no difference which event came, and a
// direction that stopped on purpose, for lack of room or of budget, needs no
// special resumption: it goes on the next time the session runs. Whatever may
// end an exchange or a session is followed by a check that it still exists; what
// was let go is not reused before the end of the turn, when no event of that
// turn can reach it any more.
//
// # Routes
//
// What the configuration says about a listener and its routes is worked out once,
// when the worker starts and at each reload (settings.go, route.go, edit.go): the fields that change, with the
// places that a request fills in, the timeouts, and answers that need no backend.
// A request looks its route up and finds everything there.
//
// # Reload and end
//
// [Worker.Prepare] makes all that a new configuration needs and may fail, then
// [Reload.Commit] swaps it in between two turns (reload.go). Listeners, upstreams
// and servers that stay are the same objects, with their queues, sessions and
// pools; an exchange holds the route that it began with, and the next request
// looks its route up anew. What a configuration removed, and everything when the
// worker drains, retires (retire.go): a listener refuses SYNs but awaits handshakes
// under way, a session is kept for a moment after its last answer, because the next
// request may be on its way, and that is answered with Connection: close. At the end
// of timeouts.drain what is left is cut off.
//
// # Failures
//
// Every failure is an [Error], which says whose doing it was and whether another
// connection may do (errors.go). It decides the answer, and goes into the log with
// how far the exchange had come (report.go). The access log says the same of each
// exchange (accesslog.go, jsonlog.go).
//
// # Buffers and copies
//
// Of a large body that leaves as it comes the memory that it was received in is handed on from
// connection to connection (flow.hand). Other bytes are read into the buffer that they are written from, except for heads,
// which are serialised anew, and chunked bodies, which are decoded and chunked
// again. A head goes into the buffer in front of the first bytes of its body, so
// that both leave with one Write; a short body that has not come yet is waited for, as
// long as the loop does not sleep (gather.go). A flow reads only when it has room, so a slow
// reader stops its sender through the TCP window. Buffers come from free lists of
// the worker and go back as soon as they are empty; an idle connection has none.
//
// # Fairness
//
// A session may move [turnBytes] in a turn; then the others come first and it
// goes on in the next turn. While the stack has no TX frames left nobody reads.
//
// A timeout expires only when the input that came before it has been taken
// (Worker.expire): a loop that was held up does not take its own delay for a peer's.
//
// # The end of a connection
//
// Behind the last answer a session lingers until the client has ended its side too
// (linger.go). It ends with RST where the client must not take what it got for
// complete.
//
// # Ownership
//
// Everything belongs to the goroutine that runs [Worker.Run], except [Worker.Stop],
// [Worker.Drain] and [Worker.Post], which any goroutine may call, [Pulse], which any
// may read, and the writer of the access log, which runs in a goroutine of its own so
// that a slow disk cannot hold up the loop.
//
// # What is not done
//
// TLS, HTTP/2 and caching.
package proxy
