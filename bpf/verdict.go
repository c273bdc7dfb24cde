package bpf

import "fmt"

// Verdict is what the program decided on a frame. It indexes [Counters].
type Verdict uint32

// The verdicts. Their names say the action: to the socket, dropped, sent back, or to the kernel.
const (
	RedirectListener    = Verdict(steerVerdictREDIRECT_LISTENER)
	RedirectBackend     = Verdict(steerVerdictREDIRECT_BACKEND)
	RedirectFragment    = Verdict(steerVerdictREDIRECT_FRAGMENT)
	RedirectICMP        = Verdict(steerVerdictREDIRECT_ICMP)
	DropNoSocket        = Verdict(steerVerdictDROP_NO_SOCKET)
	DropTinyFragment    = Verdict(steerVerdictDROP_TINY_FRAGMENT)
	DropHeaderChain     = Verdict(steerVerdictDROP_HEADER_CHAIN)
	DropDenied          = Verdict(steerVerdictDROP_DENIED)
	DropConnectionRate  = Verdict(steerVerdictDROP_CONNECTION_RATE)
	DropPacketRate      = Verdict(steerVerdictDROP_PACKET_RATE)
	DropFirstSYN        = Verdict(steerVerdictDROP_FIRST_SYN)
	DropStrayACK        = Verdict(steerVerdictDROP_STRAY_ACK)
	DropStray           = Verdict(steerVerdictDROP_STRAY)
	DropStrayFragment   = Verdict(steerVerdictDROP_STRAY_FRAGMENT)
	DropStrayICMP       = Verdict(steerVerdictDROP_STRAY_ICMP)
	AnswerSYNCookie     = Verdict(steerVerdictANSWER_SYN_COOKIE)
	PassGroupMAC        = Verdict(steerVerdictPASS_GROUP_MAC)
	PassVLANDepth       = Verdict(steerVerdictPASS_VLAN_DEPTH)
	PassNotIP           = Verdict(steerVerdictPASS_NOT_IP)
	PassMalformed       = Verdict(steerVerdictPASS_MALFORMED)
	PassOtherAddress    = Verdict(steerVerdictPASS_OTHER_ADDRESS)
	PassNotTCP          = Verdict(steerVerdictPASS_NOT_TCP)
	PassOtherPort       = Verdict(steerVerdictPASS_OTHER_PORT)
	PassICMP            = Verdict(steerVerdictPASS_ICMP)
	PassSourceRouted    = Verdict(steerVerdictPASS_SOURCE_ROUTED)
	PassUnknownFragment = Verdict(steerVerdictPASS_UNKNOWN_FRAGMENT)

	// NumVerdicts is the number of verdicts.
	NumVerdicts = int(steerVerdictNUM_VERDICTS)
)

// Counters holds the number of frames a verdict was passed on, since the program was loaded.
type Counters [NumVerdicts]uint64

var verdicts = [NumVerdicts]struct{ name, help string }{
	RedirectListener:    {"redirect_listener", "TCP segments to a listener, redirected to the socket"},
	RedirectBackend:     {"redirect_backend", "TCP segments from a backend, redirected to the socket"},
	RedirectFragment:    {"redirect_fragment", "IP fragments of listener and backend flows, redirected to the socket"},
	RedirectICMP:        {"redirect_icmp", "ICMP errors that quote a listener or backend flow, redirected to the socket"},
	DropNoSocket:        {"drop_no_socket", "frames to redirect, dropped because no socket is bound to their queue"},
	DropTinyFragment:    {"drop_tiny_fragment", "first fragments to an own address, dropped because they end before the TCP ports"},
	DropHeaderChain:     {"drop_header_chain", "IPv6 packets to an own address, dropped because of too many extension headers or two fragment headers"},
	DropDenied:          {"drop_denied", "packets to a listener, dropped because the lists of the filter deny their source"},
	DropConnectionRate:  {"drop_connection_rate", "SYNs to a listener, dropped because their source prefix opens connections too fast"},
	DropPacketRate:      {"drop_packet_rate", "packets to a listener, dropped because their source prefix sends too many"},
	DropFirstSYN:        {"drop_first_syn", "SYNs to a listener, dropped in a flood of more than the workers can answer; one that is sent again gets through"},
	DropStrayACK:        {"drop_stray_ack", "ACKs of no open connection, dropped in a flood of packets that belong to none, but for those that may end a handshake"},
	DropStray:           {"drop_stray", "RSTs, FINs and other TCP segments of no open connection, dropped in such a flood"},
	DropStrayFragment:   {"drop_stray_fragment", "fragments of no open connection or beyond a limit, dropped in such a flood"},
	DropStrayICMP:       {"drop_stray_icmp", "ICMP errors about no open connection or beyond a limit, dropped in such a flood"},
	AnswerSYNCookie:     {"answer_syn_cookie", "SYNs to a listener whose SYN queue is full, answered by the XDP program with a SYN cookie"},
	PassGroupMAC:        {"pass_group_mac", "frames to a broadcast or multicast MAC address, passed to the kernel"},
	PassVLANDepth:       {"pass_vlan_depth", "frames with more than two VLAN tags, passed to the kernel"},
	PassNotIP:           {"pass_not_ip", "frames neither IPv4 nor IPv6 (ARP and others), passed to the kernel"},
	PassMalformed:       {"pass_malformed", "frames with truncated or contradictory headers, passed to the kernel, which discards them"},
	PassOtherAddress:    {"pass_other_address", "packets to an address that is not steered, passed to the kernel"},
	PassNotTCP:          {"pass_not_tcp", "packets to an own address, neither TCP nor ICMP, passed to the kernel"},
	PassOtherPort:       {"pass_other_port", "TCP segments to an own address, not of a listener or backend flow, passed to the kernel"},
	PassICMP:            {"pass_icmp", "ICMP to an own address (echo, neighbour discovery, errors of other flows), passed to the kernel"},
	PassSourceRouted:    {"pass_source_routed", "IPv6 packets with routing segments left, passed to the kernel for forwarding"},
	PassUnknownFragment: {"pass_unknown_fragment", "fragments to an own address whose first fragment was not redirected, passed to the kernel"},
}

// String returns the verdict's name as it stands in metrics, such as "redirect_listener".
func (v Verdict) String() string {
	if int(v) >= NumVerdicts {
		return fmt.Sprintf("verdict(%d)", uint32(v))
	}
	return verdicts[v].name
}

// Help describes in a line what the verdict's counter counts.
func (v Verdict) Help() string {
	if int(v) >= NumVerdicts {
		return ""
	}
	return verdicts[v].help
}

// Redirected reports whether the frame went to the socket.
func (v Verdict) Redirected() bool { return steerVerdict(v) <= steerVerdictLAST_REDIRECT }

// Dropped reports whether the frame was dropped.
func (v Verdict) Dropped() bool { return !v.Redirected() && steerVerdict(v) <= steerVerdictLAST_DROP }
