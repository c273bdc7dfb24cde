package pcapfilter

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// Compile makes a program that returns 0 for frames that do not match. An empty
// expression matches all; its program is nil.
func Compile(expression string) ([]bpf.Instruction, error) {
	p := &parser{tokens: scan(expression)}
	if p.peek().text == "" {
		return nil, nil
	}
	n, err := p.condition()
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.text != "" {
		return nil, t.wrong("%v is not expected here: join conditions by and, or", t)
	}
	return assemble(n)
}

// qualifiers are what a primitive says of its address or port.
type qualifiers struct {
	protocol  string // "": any
	direction direction
	kind      string // "": as the value looks
}

type parser struct {
	tokens []token
	at     int
	last   qualifiers // of the primitive before
}

func (p *parser) peek() token { return p.tokens[p.at] }

func (p *parser) ahead(n int) string {
	if p.at+n < len(p.tokens) {
		return p.tokens[p.at+n].text
	}
	return ""
}

func (p *parser) next() token {
	t := p.tokens[p.at]
	if t.text != "" {
		p.at++
	}
	return t
}

// accept takes the next token if it is one of these.
func (p *parser) accept(texts ...string) bool {
	for _, text := range texts {
		if p.peek().text == text {
			p.next()
			return true
		}
	}
	return false
}

// condition parses primitives joined by and and or, of equal precedence.
func (p *parser) condition() (node, error) {
	n, err := p.unary()
	for err == nil {
		var m node
		switch {
		case p.accept("and", "&&"):
			if m, err = p.unary(); err == nil {
				n = and{n, m}
			}
		case p.accept("or", "||"):
			if m, err = p.unary(); err == nil {
				n = or{n, m}
			}
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) unary() (node, error) {
	if p.accept("not", "!") {
		n, err := p.unary()
		if err != nil {
			return nil, err
		}
		return not{n}, nil
	}
	if n, ok, err := p.relation(); ok || err != nil {
		return n, err
	}
	if t := p.peek(); t.text == "(" {
		p.next()
		n, err := p.condition()
		if err != nil {
			return nil, err
		}
		if !p.accept(")") {
			return nil, p.peek().wrong("%v: want the \")\" of column %d", p.peek(), t.at+1)
		}
		return n, nil
	}
	return p.primitive()
}

// notKnown are keywords of tcpdump that are refused, with what to do instead.
var notKnown = map[string]string{
	"vlan": "frames of VLANs are not received", "mpls": "not received", "pppoes": "not received",
	"inbound": "use -Q in", "outbound": "use -Q out",
	"gateway": "names of hosts are not known", "broadcast": "use ether dst host ff:ff:ff:ff:ff:ff", "multicast": "use ether[0] & 1 = 1",
}

func (p *parser) primitive() (node, error) {
	start := p.peek()
	if why, ok := notKnown[start.text]; ok {
		return nil, start.wrong("%q is not supported: %s", start.text, why)
	}
	switch start.text {
	case "less", "greater":
		return p.lengthLimit()
	case "ether":
		p.next()
		return p.ether()
	}
	q := qualifiers{}
	if _, ok := families[start.text]; ok || start.text == "arp" {
		q.protocol = p.next().text
		if p.ends() {
			p.last = qualifiers{protocol: q.protocol}
			return ofProtocol(q.protocol), nil
		}
	}
	q.direction = p.direction()
	switch p.peek().text {
	case "host", "net", "port", "portrange", "proto":
		q.kind = p.next().text
	default:
		if q == (qualifiers{}) {
			q = p.last
		}
	}
	p.last = q
	return p.identified(q)
}

// ends reports whether nothing of the present primitive follows.
func (p *parser) ends() bool {
	switch p.peek().text {
	case "", ")", "and", "or", "&&", "||":
		return true
	}
	return false
}

func (p *parser) direction() direction {
	switch {
	case p.peek().text == "src" && (p.ahead(1) == "or" || p.ahead(1) == "||") && p.ahead(2) == "dst":
		p.at += 3
	case p.peek().text == "src" && (p.ahead(1) == "and" || p.ahead(1) == "&&") && p.ahead(2) == "dst":
		p.at += 3
		return bothDirections
	case p.accept("src"):
		return source
	case p.accept("dst"):
		return destination
	}
	return anyDirection
}

func (p *parser) lengthLimit() (node, error) {
	word := p.next()
	n, err := p.number()
	if err != nil {
		return nil, err
	}
	t := test{code: []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtLen}}, cond: bpf.JumpLessOrEqual, val: n}
	if word.text == "greater" {
		t.cond = bpf.JumpGreaterOrEqual
	}
	return t, nil
}

func (p *parser) number() (uint32, error) {
	t := p.next()
	n, err := strconv.ParseUint(t.text, 0, 32)
	if err != nil {
		return 0, t.wrong("%v is not a number", t)
	}
	return uint32(n), nil
}

// ether parses what follows the word.
func (p *parser) ether() (node, error) {
	d := p.direction()
	if p.accept("proto") {
		t := p.peek()
		if n, ok := map[string]node{"ip": isIPv4, "ip6": isIPv6, "arp": isARP}[t.text]; ok {
			p.next()
			return n, nil
		}
		n, err := p.number()
		return equal(atEtherType, 2, n), err
	}
	p.accept("host")
	t := p.next()
	mac, err := net.ParseMAC(t.text)
	if err != nil || len(mac) != 6 {
		return nil, t.wrong("%v is not an Ethernet address", t)
	}
	return hasMAC([6]byte(mac), d), nil
}

// identified parses the address or port, and makes a condition of it.
func (p *parser) identified(q qualifiers) (node, error) {
	t := p.next()
	if t.text == "" || strings.Contains("()[]!<>=&|+*/%^", t.text[:1]) {
		return nil, t.wrong("%v: want a condition, such as host 192.0.2.1 or port 80", t)
	}
	switch q.kind {
	case "port", "portrange":
		return p.ports(q, t)
	case "proto":
		return protocolNumber(q, t)
	}
	network, err := netip.ParsePrefix(t.text)
	if err != nil {
		a, addrErr := netip.ParseAddr(t.text)
		if addrErr != nil || a.Zone() != "" {
			return nil, t.wrong("%v is not an address (names of hosts are not known), nor a keyword", t)
		}
		if q.kind == "net" {
			return nil, t.wrong("%v: want ADDRESS/BITS", t)
		}
		network = netip.PrefixFrom(a, a.BitLen())
	} else if q.kind == "host" {
		return nil, t.wrong("%v is a network: use net", t)
	}
	if network.Masked() != network {
		return nil, t.wrong("%v has bits of a host: want %v", t, network.Masked())
	}
	v4 := network.Addr().Is4()
	switch {
	case network.Addr().Is4In6():
		return nil, t.wrong("%v: write it as an IPv4 address", t)
	case q.protocol == "ip" && !v4, q.protocol == "ip6" && v4, q.protocol == "arp":
		return nil, t.wrong("%v is no address of %s", t, q.protocol)
	}
	n := inNet(network, q.direction)
	if q.protocol != "" {
		n = and{ofProtocol(q.protocol), n}
	}
	return n, nil
}

// ports makes a condition of a port or a range.
func (p *parser) ports(q qualifiers, t token) (node, error) {
	low, high := t.text, t.text
	if q.kind == "portrange" {
		var ok bool
		if low, high, ok = strings.Cut(t.text, "-"); !ok {
			return nil, t.wrong("%v: want FIRST-LAST", t)
		}
	}
	first, err := net.LookupPort("ip", low)
	if err == nil {
		var last int
		if last, err = net.LookupPort("ip", high); err == nil {
			names, v4, v6 := withPorts, q.protocol != "ip6", q.protocol != "ip"
			switch q.protocol {
			case "", "ip", "ip6":
			case "tcp", "udp", "sctp":
				names = []string{q.protocol}
			default:
				return nil, t.wrong("%s has no ports", q.protocol)
			}
			return inPorts(names, v4, v6, q.direction, uint32(min(first, last)), uint32(max(first, last))), nil
		}
	}
	return nil, t.wrong("%v is not a port", t)
}

func protocolNumber(q qualifiers, t token) (node, error) {
	n, ok := protocols[t.text]
	if !ok {
		k, err := strconv.ParseUint(t.text, 0, 8)
		if err != nil {
			return nil, t.wrong("%v is not a protocol", t)
		}
		n = uint32(k)
	}
	switch q.protocol {
	case "":
		return or{carries4(n), carries6(n)}, nil
	case "ip":
		return carries4(n), nil
	case "ip6":
		return carries6(n), nil
	}
	return nil, t.wrong("proto goes with ip and ip6 alone")
}
