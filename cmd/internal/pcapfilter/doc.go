// Package pcapfilter compiles the capture filters of tcpdump (pcap-filter(7)) to
// classic BPF for Ethernet frames, to be run by golang.org/x/net/bpf.
//
// An expression is made of primitives, joined by and (&&), or (||) and not (!).
// And and or bind equally and from the left, as in tcpdump: use parentheses.
//
//	[PROTO] [DIR] host ADDRESS       PROTO: ip, ip6, tcp, udp, sctp, icmp, icmp6, arp
//	[PROTO] [DIR] net ADDRESS/BITS   DIR: src, dst, src or dst (without one), src and dst
//	[PROTO] [DIR] port PORT          a number, or a name of /etc/services
//	[PROTO] [DIR] portrange P-P
//	ether [DIR] host MAC
//	PROTO                            alone: any such frame
//	[ip|ip6] proto NUMBER|NAME
//	less BYTES, greater BYTES
//	A = B                            also ==, !=, <, >, <=, >=
//
// A and B are made of numbers, len, and the bytes of a header, PROTO[at] or
// PROTO[at:size], where PROTO may also be ether and size is 1, 2 or 4, with + - * / %
// & | ^ << >>, and parentheses. Names stand for tcpflags, tcp-fin, tcp-syn, tcp-rst,
// tcp-push, tcp-ack, tcp-urg, tcp-ece, tcp-cwr, icmptype and icmpcode. A lone
// address or port has the qualifiers of the primitive before: `port 80 or 443`.
//
// Otherwise than with tcpdump, tcp[...] and the like look into IPv6 packets too.
// Fragments but the first have no ports, and those of IPv6 none at all. A frame that
// is too short for what is looked at does not match. Names of hosts, VLANs and
// tunnels are not known.
package pcapfilter
