// Package dataplane moves Ethernet frames between a NIC queue and the worker that owns it, without the kernel's
// network stack.
//
// An [Interface] is a network interface with the steering program attached. A [Queue] is one AF_XDP socket on one of
// its queues: a UMEM cut into frames, the four rings, and the account of who owns which frame. A [Waiter] parks the
// worker while its queues have nothing. A [Handover] passes frames between workers, and a [Placement] chooses source
// ports so that a NIC's [RSS] makes that seldom necessary. [Neighbours] follows the kernel's neighbour and route tables,
// which tell the layer above what to write in an Ethernet header, and [LinkEvents] what becomes of the interfaces. There is no TCP here, and nothing looks into a frame.
//
// # The frame's way
//
//  1. XDP steers the frame to the socket of the queue it came in on, or passes it to the kernel ([Interface.Steer]).
//  2. RX descriptor -> frame owned by the worker ([Queue.Peek], [Queue.Frame]), by way of the backlog if the ring is crowded.
//  3. The worker copies what it wants, the frame goes straight back to the fill ring ([Queue.Release]).
//  4. (stack) netstack marks connections ready.
//  5. (proxy) the worker runs ready sessions.
//  6. A segment is written into a TX frame ([Queue.Reserve], [Queue.Submit]).
//  7. One kick a turn: publish, sendto until the kernel has taken all ([Queue.Kick]); or leave that to the sender.
//  8. Completion ring -> free list ([Queue.Reap]).
//
// If another worker owns the frame's flow, the copy of step 3 goes to a ring in memory shared with that worker
// ([Handover.Send]), which goes on from there ([Handover.Receive]).
//
// # Processes
//
// The master opens the Interface and tells its workers what they must know of it ([Interface.Link]). A worker, which may
// have no other right left afterwards, binds its sockets ([OpenQueue]) and sends their descriptors ([Queue.FD]) to the
// master, which has frames steered to them ([Interface.SetSocket]). A socket dies with its worker, and a successor's
// takes its place; the others notice nothing.
//
// # Ownership
//
// A Queue belongs to one goroutine, the worker's loop; none of its methods lock. A frame is always in exactly one of
// four states: Free (on the TX free list), Fill (the kernel may receive into it), RX (the loop reads it), TX (the loop
// writes it or the kernel sends it). frames.go holds every transition; [Queue.Levels] shows the account, which sums to
// the number of frames at any time.
//
// One part of sending may be another thread's. In copy mode the kernel does all of the work within sendto, and on veth the peer's
// as well. A kick of many frames is left to the queue's sender (sender_unsafe.go), if there is more than one processor, while the loop goes
// on. It only makes the calls; rings and frames stay the loop's. The loop makes a kick itself that is of few frames and finds the sender
// idle; if the sender has not come since it was last asked, as no processor is free; if the kernel took nothing, to
// learn why; and if no TX frame is free.
//
// RX frames and TX frames never change sides: as many frames as the fill ring has slots receive, the others send. So
// putting a frame back on the fill ring, or a reserved frame on the TX ring, cannot fail, and the RX ring cannot
// overflow: a worker that falls behind shows as a backlog, and one that does not even look at its ring as an empty fill ring ([KernelStats]). Running out of TX frames is
// back-pressure ([Queue.Reserve] answers false), never a drop.
//
// # Jumbo frames
//
// Where the MTU needs it ([LinkInfo.Frags]), packets may be in several frames, which go together through all of the
// above: received ones as a chain ([Queue.Chained], [Queue.More]), sent ones as a group of adjacent frames, one piece of
// memory, of which the kernel is given as many as the packet needs. chain.go holds what is special to them.
//
// # Memory
//
// The UMEM is pinned and resident from the start: Frames x FrameBytes, by default 3584 x 2048 = 7 MiB a queue: 2867
// frames receive, 3.4 ms of 10 Gbit/s, 717 are for sending. What comes while a loop does not take it goes from a
// crowded RX ring to the backlog (backlog.go), in memory of its size, which is taken as it is needed and given back
// ([Queue.Trim]): 4 MiB at most by default. Rings may have more slots than there are frames. Where the driver hands out frames that it does not have (rx.go), the worker reads
// copies: as much memory again as the frames that receive.
//
// The memory of a Handover is a memfd with a ring of 256 KiB for each ordered pair of workers, whose pages exist once
// they were written: at most 0.5 MiB for two workers, 3 for four, 60 for sixteen.
//
// Where checksums of what is sent are left to the interface ([TXChecksumMode]), the first 64 bytes of a TX frame are
// metadata that tells it where (struct xsk_tx_metadata), and the data start behind them. Then the UMEM is registered here,
// as asavie/xdp cannot ask for that; otherwise asavie/xdp makes it.
//
// # Namespaces
//
// Interfaces, sockets and netlink belong to the network namespace of the thread that opens them. [OpenInterface],
// [OpenQueue], [ReadRSS] and [NewNeighbours] open everything on the calling goroutine; a caller that changes
// namespaces locks its thread around them. Later calls use the descriptors and may come from any thread.
//
// # Not done here
//
// Shared UMEM. Metadata of received frames (xdp-rx-metadata.rst) is not asked for: there is none of checksums, a time
// stamp serves nothing here, and the hash would only say again what the queue says that a frame came in on, which shows as a
// frame handed over where the NIC places flows otherwise than [Placement] foretold.
package dataplane
