package pcapfilter

import (
	"errors"

	"golang.org/x/net/bpf"
)

// node is a condition on a frame.
type node interface{}

type (
	and struct{ a, b node }
	or  struct{ a, b node }
	not struct{ a node }
	// test loads something into A and compares it with val, or with X.
	test struct {
		code []bpf.Instruction
		cond bpf.JumpTest
		val  uint32
		x    bool
	}
)

// all is true when every one of n is.
func all(n ...node) node {
	for len(n) > 1 {
		n = append(n[:len(n)-2], and{n[len(n)-2], n[len(n)-1]})
	}
	return n[0]
}

// either is true when one of n is.
func either(n ...node) node {
	for len(n) > 1 {
		n = append(n[:len(n)-2], or{n[len(n)-2], n[len(n)-1]})
	}
	return n[0]
}

const (
	maxInstructions = 4096    // the kernel's BPF_MAXINSNS
	acceptBytes     = 1 << 18 // tcpdump's default snapshot length
)

// program is code from its end to its beginning: a condition is generated before
// what leads to it, so that every jump knows its distance.
type program []bpf.Instruction

// generate returns the position of the entry to n, its last one, which goes on at t
// or f.
func (p *program) generate(n node, t, f int) int {
	switch n := n.(type) {
	case and:
		return p.generate(n.a, p.generate(n.b, t, f), f)
	case or:
		return p.generate(n.a, t, p.generate(n.b, t, f))
	case not:
		return p.generate(n.a, f, t)
	case test:
		t, f = p.reach(t, 2), p.reach(f, 1)
		skipTrue, skipFalse := uint8(len(*p)-t-1), uint8(len(*p)-f-1)
		if n.x {
			*p = append(*p, bpf.JumpIfX{Cond: n.cond, SkipTrue: skipTrue, SkipFalse: skipFalse})
		} else {
			*p = append(*p, bpf.JumpIf{Cond: n.cond, Val: n.val, SkipTrue: skipTrue, SkipFalse: skipFalse})
		}
		for i := len(n.code) - 1; i >= 0; i-- {
			*p = append(*p, n.code[i])
		}
	}
	return len(*p) - 1
}

// reach returns a position from which to comes, and which the condition that is
// about to be written, behind up to room more instructions, can jump to.
func (p *program) reach(to, room int) int {
	if len(*p)+room-to-1 <= 255 {
		return to
	}
	*p = append(*p, bpf.Jump{Skip: uint32(len(*p) - to - 1)})
	return len(*p) - 1
}

// assemble makes the program of n.
func assemble(n node) ([]bpf.Instruction, error) {
	p := program{bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: acceptBytes}}
	p.generate(n, 1, 0)
	if len(p) > maxInstructions {
		return nil, errors.New("filter: the expression is too long")
	}
	for i, k := 0, len(p)-1; i < k; i, k = i+1, k-1 {
		p[i], p[k] = p[k], p[i]
	}
	return p, nil
}
