// Package segments compares the TCP of ringroad with the kernel's, segment by segment: a peer whose every segment the test writes itself
// sends the same to ringroad and to nginx on the kernel's TCP, both in the edge of one lab and in front of one backend, and the answers
// must be the same.
//
//	client                      edge
//	AF_PACKET ──── c0 ──── e0 ──┬─ XDP ─ ringroad :80
//	10.1.0.77, fd00:1::77       └─────── nginx    :90
//
// The peer's addresses are no addresses of the client's kernel, which is silent about them; the edge has fixed neighbours for them.
// A case brings a connection into a state, sends segments, writes down what comes back (peer.outcome), and then whether the connection
// lives. What nginx is answered is the control. Where ringroad answers something else on purpose, the case says what and why.
//
// `make segments` runs it; the tests have the build tag segments, so that other runs leave them out. Besides, a client and a backend
// behind routers with a narrow link have to find the path MTU (path_test.go).
//
// All cases of a server run side by side, since they mostly wait for silence. Meanwhile not one counter of the edge's kernel TCP may
// move for those of ringroad.
package segments
