// Package proxyproto reads and writes the headers of HAProxy's PROXY protocol
// (proxy-protocol.txt, section 2), by which a load balancer tells the server
// behind it who the client is: version 1, a line of text, and version 2, binary.
// It is pure: no I/O, no clock, no state; any goroutine may use it.
//
// # Principle
//
// A header matches the specification exactly or it is refused, at the first byte
// that shows it, because what follows it would be taken for the client's own
// bytes. There is no guessing: whether a connection begins with a header is
// configuration, never detection.
//
// # Ownership
//
// [Parse] keeps nothing of what it is given; the caller reads until it has an
// answer and throws the header away. At most [MaxBytes] are ever needed.
//
// # Not done here
//
// Extensions of version 2 (TLVs) are skipped, but for the checksum, which is
// verified. Addresses of UNIX sockets and datagrams count as unknown.
package proxyproto
