//go:build segments

package segments

import "regexp"

// known are the cases in which ringroad answers something else than nginx on Linux, and is meant to.
var known = []struct{ cases, ringroad, why string }{
	{"^SYN-RECEIVED: SYN and ACK", `^RST`, "the reset that netstack answers with has ACK, too"},
	{"^SYN-RECEIVED: data behind FIN", `FIN ack\+1; taken`, "netstack answers the one before the other"},
	{"^SYN-RECEIVED: RST with an old timestamp", `then reset`, "RFC 7323 5.2 exempts resets from PAWS; the kernel does not during handshakes"},
	{"^SYN-RECEIVED: ICMP (host unreachable|time exceeded|parameter problem|administratively)", "lives", "the kernel ends a handshake by these errors; RFC 5927 6 advises against"},
	{"^SYN-RECEIVED: ICMP (port|protocol) unreachable", "lives", "the same with IPv6"},
	{"^(FIN-WAIT-[12]|CLOSING): .*(data|FIN) out of order", `^ACK`, "ringroad still reads after its FIN, so that the client can; nginx has closed, and resets"},
	{"^FIN-WAIT-2: data", `^ACK|^silence`, "the same"},
	{"^FIN-WAIT-1: data behind FIN", "taken", "netstack resets when both come in one batch (package stack, known limits)"},
	{"^FIN-WAIT-2: ", "", "the kernel keeps but a small socket of a connection that nginx has closed, which judges less"},
	{"^(FIN-WAIT-1|CLOSING|TIME-WAIT): .*(RST|all flags)", "lives", "a reset does not end the memory of a connection that is as good as closed (RFC 1337)"},
	{"^TIME-WAIT: SYN and FIN", "lives", "the kernel forgets the connection, and then drops the SYN"},
	{"^(CLOSE-WAIT|CLOSING|LAST-ACK): RST before the window", "silence; lives", "the kernel takes a reset before a FIN for one behind it; RFC 9293 3.10.7.4 does not"},
	{"^CLOSE-WAIT: ", "silence; lives", "the kernel queues what follows FIN out of order, and is stuck then"},
	{"^FIN out of order, then the data", "200 OK; FIN not acknowledged", "netstack forgets a pure FIN that came early; the peer sends it again (package stack, known limits)"},
	{"two fragments, the second first", "^silence", "a fragment that overtakes the first passes to the kernel (package bpf)"},
	{"overlapping fragments", "^silence", "RFC 5722: the packet is discarded"},
	{"fragments of 8 bytes, IPv6", "taken|SYN-ACK", "the kernel wants all of the TCP header in the first fragment (RFC 7112), XDP the ports"},
	{"^handshake with (no options|MSS of length 3|end of options first|option of length 1), IPv6", "segments of 536", "netstack's default MSS of IPv6 is that of IPv4, less than the 1220 of RFC 9293 3.7.1"},
}

// expected says why ringroad's outcome of a case is what it is meant to be; ok is false when it is not.
func expected(name, outcome string) (why string, ok bool) {
	for _, k := range known {
		if regexp.MustCompile(k.cases).MatchString(name) && regexp.MustCompile(k.ringroad).MatchString(outcome) {
			return k.why, true
		}
	}
	return "", false
}
