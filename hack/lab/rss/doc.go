// Package rss makes a veth pair distribute frames over the receive queues of one end as a NIC with receive side scaling does.
//
// On a veth the receive queue of a frame is the transmit queue that the other end sends it on, which by default follows from a hash
// whose key nobody knows. A tcx program at the other end's egress chooses it instead: table[Toeplitz(key, addresses and ports) % 128].
// What is not IP keeps the queue that the kernel chooses, and so do frames with a VLAN tag.
//
// Attach before the first socket sends through the interface: a connection remembers the queue of its first segment. Frames that an
// AF_XDP socket sends do not meet the program.
//
// The C side is src/rss.c; as with package bpf the object is committed.
package rss

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang-14 -target bpfel -output-stem rss rss src/rss.c -- -mcpu=v3 -Wall -Wextra -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
