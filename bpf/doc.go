// Package bpf is the XDP program that steers frames: those of our TCP flows to the AF_XDP socket of the queue they came
// in on, all others to the kernel, as if the program were not there.
//
// It is step 1 of a frame's way:
//
//  1. XDP steers the frame to the queue's socket; everything else passes to the kernel.
//  2. RX descriptor -> frame owned by the worker (package dataplane, as are steps 6 to 8).
//
// The C side is in src: constants.h (protocol numbers, limits, verdicts), cursor.h (bounds checks), parse.h (headers),
// flow.h (what is ours), filter.h (who may send), flood.h (what is refused in a flood), cookie.h and answer.h (SYN cookies), maps.h, and steer.c, which joins them into two programs: one for frames in one buffer and one
// for frames in several (xdp.frags), needed for an MTU above one page. It is dual licensed GPL-2.0 and BSD-2-Clause; the
// object is committed, and `go generate` with Debian 12's clang-14 and libbpf-dev makes it again, byte for byte.
// Little-endian machines only.
//
// # What is ours
//
// A frame is ours if its IPv4 or IPv6 destination is one of [Config].Addresses and it is
//   - a TCP segment to one of Listeners, or
//   - a TCP segment from one of Backends to a port in BackendPorts, or
//   - a fragment of such a segment, or
//   - an ICMP error (destination unreachable with fragmentation needed, packet too big, time exceeded, parameter problem)
//     that quotes a segment of ours in the other direction; path MTU discovery depends on it.
//
// A frame of ours never reaches the kernel's TCP, which does not know the connection and would reset it: without a socket
// on its queue it is dropped ([DropNoSocket]), a SYN to a listener too (the client sends it again). The same holds where
// it cannot be said whose a frame is, and the kernel might find out: [DropTinyFragment], [DropHeaderChain]. A frame that
// is too short or contradicts itself passes, for the kernel discards it without an answer.
//
// Parsed are Ethernet, up to two VLAN tags (802.1Q, 802.1ad), IPv4 with options, IPv6 with up to eight hop-by-hop,
// routing, destination options and fragment headers. A frame to a group MAC address always passes.
//
// # VLAN tags
//
// Tags do not take part in the decision: a tagged frame to an own address and port is redirected with its tags, also when
// the kernel would have given it to a VLAN interface on top of this one. So do not list an address here that another VLAN
// of the same interface uses. The stack behind must answer with the same tags, or drop and count. A NIC with VLAN
// offload strips the outer tag before the program runs; then the frame looks untagged and is steered as such.
//
// # Fragments
//
// The first fragment names the ports; its identification is remembered for 30 s, least recently used first out, and the
// others follow it. A fragment that overtakes its first is not known yet and passes. That is sound: the kernel never gets
// the first one, so it cannot complete the packet nor answer it, and TCP sends the data again.
//
// # Filter
//
// [Config].Filter says who may send to Listeners: lists of prefixes (a trie, the longest prefix decides), and limits on
// the SYNs and on the packets of a source prefix. What it refuses is dropped: [DropDenied], [DropConnectionRate],
// [DropPacketRate]. Nothing else is asked: neither the kernel's traffic nor what backends send. An ICMP error passes the
// lists by the client that it is about, so that routers need not be listed, and the limits by its sender. Without a filter
// a frame pays one test of a bit; with one, a look-up in each of the lists and the buckets.
//
// The buckets are an LRU map of 65536 prefixes and not one for each CPU, because a prefix arrives on all of them and has
// one limit; a bucket is one word, changed by compare-and-swap, since such a map has no locks. A flood from more prefixes
// than that begins with full buckets again and again: SYN cookies are the answer to those.
//
// # SYN cookies
//
// While a worker asks for it ([Steer.AnswerUntil]) because its SYN queue is full, SYNs that came in on its queue are answered here
// ([AnswerSYNCookie]), in the frame that they came in, which goes back by XDP_TX, instead of the way through ring, worker
// and a send call. The cookies are those that the workers make and judge ([CookieKey]), so that the ACK can go to any
// of them as ever. Lists and limits come first. Tagged frames, IP options and extension headers are left to the worker, and
// so is everything else that is not a plain SYN. On veth, where XDP_REDIRECT takes the place of XDP_TX ([Cookies].Redirect), a
// frame sent so is lost unless the peer has NAPI: an XDP program, or `ethtool -K PEER gro on`.
//
// # Floods
//
// [Flows] is memory that programs and workers share. A worker marks in it which connections are open, by a hash with a
// random key, and says when there is a flood of packets that belong to none. Until then the program asks nothing, a test of
// one word. In a flood it refuses what finds its slot empty: [DropStray], [DropStrayACK], [DropStrayFragment],
// [DropStrayICMP]. Of ACKs to a listener that bring a valid SYN cookie so many a second pass. Fragments and ICMP errors have
// limits even if their connection is open. A slot is shared by all connections with the same hash, so a stray passes with
// the probability that its slot is in use; one of an open connection never finds it empty.
//
// A SYN to a listener passes, unless workers say that there are more than they can answer. Then so many a second pass, and
// of the others those that are sent again: the first is dropped, and remembered by 12 bits of its hash ([DropFirstSYN]).
//
// # Not done here
//
// The destination MAC address is not compared with the interface's: on an interface in promiscuous mode the stack behind
// sees frames for other hosts too, if the IP address is own. Checksums are not verified, and the order of IPv6 extension
// headers is not checked; both are the stack's. XDP sees received frames only: a local process that connects to an own
// address stays within the kernel. Attaching to an interface is package dataplane's.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -target bpfel -output-stem steer -type verdict -type port_role steer src/steer.c -- -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
