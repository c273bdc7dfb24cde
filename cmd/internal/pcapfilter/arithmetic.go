package pcapfilter

import (
	"errors"
	"slices"

	"golang.org/x/net/bpf"
)

// value is a number that a frame yields.
type value interface{}

type (
	number uint32
	length struct{}
	// field is size bytes of a protocol's header.
	field struct {
		protocol string
		at       value
		size     int
	}
	operation struct {
		op   bpf.ALUOp
		a, b value
	}
)

// family is a kind of packet that fields can be found in.
type family int

const (
	anyFrame family = iota
	overIPv4
	overIPv6
)

// families are those that have a protocol's header.
var families = map[string][]family{
	"ether": {anyFrame, overIPv4, overIPv6},
	"ip":    {overIPv4}, "ip6": {overIPv6},
	"icmp": {overIPv4}, "igmp": {overIPv4}, "icmp6": {overIPv6},
	"tcp": {overIPv4, overIPv6}, "udp": {overIPv4, overIPv6}, "sctp": {overIPv4, overIPv6},
}

// compare makes a condition of two values: true for frames that have all the
// headers that they speak of, and satisfy it.
func compare(a value, cond bpf.JumpTest, b value) (node, error) {
	names := fieldsOf(a, fieldsOf(b, nil))
	var ways []node
	for _, f := range []family{anyFrame, overIPv4, overIPv6} {
		var need []node
		possible := true
		for _, name := range names {
			if !slices.Contains(families[name], f) {
				possible = false
				break
			}
			need = append(need, has(name, f)...)
		}
		if !possible || f != anyFrame && len(need) == 0 {
			continue
		}
		g := generator{family: f}
		t, err := g.compare(a, cond, b)
		if err != nil {
			return nil, err
		}
		ways = append(ways, all(append(need, t)...))
	}
	if len(ways) == 0 {
		return nil, errors.New("no frame has all these headers")
	}
	return either(ways...), nil
}

// has says that a header is there, in a frame of a family.
func has(protocol string, f family) []node {
	switch {
	case protocol == "ether":
		return nil
	case protocol == "ip":
		return []node{isIPv4}
	case protocol == "ip6":
		return []node{isIPv6}
	case f == overIPv4:
		return []node{carries4(protocols[protocol]), isFirst4}
	}
	return []node{isIPv6, equal(atNext6, 1, protocols[protocol])}
}

// fieldsOf adds the protocols that v has fields of.
func fieldsOf(v value, names []string) []string {
	switch v := v.(type) {
	case field:
		names = fieldsOf(v.at, names)
		if !slices.Contains(names, v.protocol) {
			names = append(names, v.protocol)
		}
	case operation:
		names = fieldsOf(v.b, fieldsOf(v.a, names))
	}
	return names
}

// generator writes the code of values in frames of one family.
type generator struct {
	family family
	code   []bpf.Instruction
	err    error
}

const scratchSlots = 16 // BPF_MEMWORDS

func (g *generator) compare(a value, cond bpf.JumpTest, b value) (node, error) {
	if n, ok := b.(number); ok {
		g.load(a, 0)
		return test{code: g.code, cond: cond, val: uint32(n)}, g.err
	}
	g.pair(a, b, 0)
	return test{code: g.code, cond: cond, x: true}, g.err
}

// pair loads a into A and b into X, with the scratch slots from the given one.
func (g *generator) pair(a, b value, slot int) {
	if slot >= scratchSlots {
		g.err = errors.New("the arithmetic is nested too deeply")
		return
	}
	g.load(a, slot)
	g.emit(bpf.StoreScratch{Src: bpf.RegA, N: slot})
	g.load(b, slot+1)
	g.emit(bpf.TAX{}, bpf.LoadScratch{Dst: bpf.RegA, N: slot})
}

// load loads v into A.
func (g *generator) load(v value, slot int) {
	switch v := v.(type) {
	case number:
		g.emit(bpf.LoadConstant{Dst: bpf.RegA, Val: uint32(v)})
	case length:
		g.emit(bpf.LoadExtension{Num: bpf.ExtLen})
	case operation:
		if n, ok := v.b.(number); ok {
			g.load(v.a, slot)
			g.emit(bpf.ALUOpConstant{Op: v.op, Val: uint32(n)})
			return
		}
		g.pair(v.a, v.b, slot)
		g.emit(bpf.ALUOpX{Op: v.op})
	case field:
		g.loadField(v, slot)
	}
}

func (g *generator) loadField(v field, slot int) {
	base, behindIPv4 := uint32(atNetwork), false
	switch v.protocol {
	case "ether":
		base = 0
	case "ip", "ip6":
	default:
		behindIPv4 = g.family == overIPv4
		if g.family == overIPv6 {
			base = atTransport6
		}
	}
	at, fixed := v.at.(number)
	switch {
	case fixed && behindIPv4:
		g.emit(bpf.LoadMemShift{Off: atNetwork}, bpf.LoadIndirect{Off: base + uint32(at), Size: v.size})
		return
	case fixed:
		g.emit(bpf.LoadAbsolute{Off: base + uint32(at), Size: v.size})
		return
	}
	g.load(v.at, slot)
	if behindIPv4 {
		g.emit(bpf.LoadMemShift{Off: atNetwork}, bpf.ALUOpX{Op: bpf.ALUOpAdd})
	}
	g.emit(bpf.TAX{}, bpf.LoadIndirect{Off: base, Size: v.size})
}

func (g *generator) emit(i ...bpf.Instruction) { g.code = append(g.code, i...) }
