// Package lab makes and removes the network that ringroad is shown, tested and measured in: three hosts made of network namespaces
// on one machine, joined by veth pairs.
//
//	client                    edge                        backend
//	c0 10.1.0.2 ───────────── e0 10.1.0.1
//	   fd00:1::2                 fd00:1::1
//	                          e1 10.2.0.1 ─────────────── b0 10.2.0.2
//	                             fd00:2::1                   fd00:2::2
//
// The client sends requests, ringroad (or nginx, for comparison) runs in the edge, and nginx and a small Go server answer in the
// backend. Namespaces are called rr<id>-client, rr<id>-edge and rr<id>-backend, where the id differs for every run, so labs live
// side by side. A wire between two of them can be given faults (Options.ClientFault, Options.BackendFault): loss, delay, reordering and
// more; then a fourth namespace sits in the middle, whose bridge is package faultlink.
//
// The veths may have several queues (Options.Queues). Options.RSS makes the edge receive as from a NIC with receive side scaling: a
// program (package rss) at whatever sends to the edge chooses the queue, be it the host or the namespace in the middle.
//
// # Ownership and clean-up
//
// A Lab owns its namespaces, everything that runs in them, and its temporary directories. Close removes them all. Every run enters
// itself in a registry under /run (registry.go), and Up first removes what runs that no longer live have left behind; it identifies
// a process by the namespace it is in, never by its name.
//
// # Children
//
// The Go server and the fault link run as children of the same binary, executed again in their namespace. Every program that uses
// this package therefore calls Child first thing in main or TestMain.
//
// # Not done here
//
// Nothing outside the namespaces is configured, and nothing is installed: see hack/install.
package lab
