// Package stack is a worker's TCP: gVisor's netstack on AF_XDP queues, offered
// to the event loop above as the system calls an event-driven server knows.
//
// # The frame's way
//
//  1. XDP steers the frame to the queue's socket (package bpf).
//  2. An RX descriptor makes the frame the worker's (package dataplane).
//  3. [Stack.Turn] injects the batch: one copy from UMEM into a pooled view,
//     then the frame goes back to the fill ring (receive.go). Of a bulk transfer
//     the data of a batch are copied together (merge.go). What belongs to
//     another worker is handed over to it instead (handover.go).
//  4. What is next on an established connection TCP processes there and then
//     (established.go), as what begins and ends one (synqueue.go, ending.go), the rest
//     through the queue of its endpoint (atonce.go). All fill receive buffers, and notifications append connections
//     to the [Poller]'s ready list (poller.go).
//  5. The loop drains the ready list: [Conn.Read], [Conn.Write] until
//     [ErrWouldBlock] (conn.go), and [Conn.MoveTo] for bytes that it need not see
//     (move.go).
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
//	splice                          Conn.MoveTo
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
// [Stack.Wake] may be called from others. netstack's own processor goroutine,
// for what the loop left queued, runs while the loop yields; what it shares with
// the loop (TX side of a link, ready list, timers) is locked, because the runtime
// may preempt it anywhere.
// With GOMAXPROCS=1 none of these locks is ever contended.
//
// # Faults of netstack that are made good here
//
//   - It can lose its retransmission timer after a loss, and the connection
//     stalls for good (rearm.go).
//   - It takes the wait for a lost SYN for the round trip (handshake.go).
//   - It sends an answer again whose ACK the peer delays, when FIN is behind it, and probes
//     the first packet of the last segment instead of the last one, or a FIN without the
//     data that it left with (probe.go).
//   - It does not see what is lost within a large segment, or lost a second time, and keeps new
//     data back while it looks for losses (sack.go).
//   - After a time-out it sends a packet or two of what was lost, and waits for the next one
//     (timeout.go).
//   - Its CUBIC hardly lets a small window grow, and shrinks one twice for a loss, and for
//     the probe of a closed one (congestion.go).
//   - It keeps the smaller congestion window after a recovery from a loss that was none
//     (undo.go).
//   - Of two segments sent at one time it takes one for lost (clock.go).
//   - It leaves room for SACK blocks in segments that have none (fullsegment.go).
//   - Small segments that nobody reads fill its memory, 600 bytes each, long before the window that it announced
//     is full: it drops them (unlocked_unsafe.go, coalesce).
//   - It says once only that a closed window is open: when that is lost, the peer's next probe may
//     be many seconds away (windowupdate.go).
//   - It does not tell a sender what came twice, which so learns that it sent again for
//     nothing (dsack.go).
//   - It takes segments and ICMP errors that a TCP must refuse (guard.go, icmp.go).
//   - What belongs to no connection costs as much as what does (flood.go).
//
// Most need fields that netstack does not export, as the short way of
// established connections does; sender_unsafe.go, segment_unsafe.go and unlocked_unsafe.go
// find them by name, and panic at the start of a program whose netstack has others.
//
// # Known limits
//
// What netstack (20260905) does otherwise than the RFCs or Linux, and is not made good
// here. hack/segments has a case for each that shows on the wire, which is the reproducer; in
// brackets the change to netstack that would mend it.
//
//   - A pure FIN that overtakes data is acknowledged as out of order but forgotten, so
//     that the peer has to send it again (RFC 9293 3.10.7.4 wants it kept). [rcv.go,
//     handleRcvdSegment: the loop over pendingRcvdSegments takes segSeq+segLen-1 <
//     RcvNxt for "acknowledged already"; a segment with FIN has to count as one longer.]
//   - Data or a second FIN behind the peer's FIN, in one batch with it, reset the
//     connection or move RCV.NXT; in a later batch the guard takes them off. [rcv.go,
//     handleRcvdSegmentClosing: with r.closed, ignore the text and FIN of a segment
//     instead of ErrConnectionAborted.]
//   - Without an MSS option a peer with IPv6 gets segments of 536 bytes instead of 1220
//     (RFC 9293 3.7.1). [connect.go: header.ParseSynOptions defaults to
//     TCPDefaultMSS whatever the network protocol.]
//   - The reset that answers an unacceptable ACK during a handshake has the ACK flag,
//     against RFC 9293 3.10.7.4; it is harmless. [connect.go, synRcvdState.]
//   - A path MTU of IPv4 below 552 bytes is taken for 552, and DF stays set: what does
//     not fit is lost. The kernel sends without DF then. [No way to clear DF of a route.]
//   - The path MTU is learnt by each connection anew, and never grows again.
//   - A fragment that overtakes the first of its packet passes to the kernel, which drops it in the
//     end: the packet is lost, and the peer sends it again (package bpf).
//
// # Not done here
//
// ARP and neighbour discovery stay with the kernel; a link asks a [Resolver].
// There is no forwarding and no UDP.
package stack
