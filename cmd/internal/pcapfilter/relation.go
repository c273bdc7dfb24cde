package pcapfilter

import (
	"strconv"

	"golang.org/x/net/bpf"
)

var comparisons = map[string]bpf.JumpTest{
	"=": bpf.JumpEqual, "==": bpf.JumpEqual, "!=": bpf.JumpNotEqual,
	"<": bpf.JumpLessThan, ">": bpf.JumpGreaterThan, "<=": bpf.JumpLessOrEqual, ">=": bpf.JumpGreaterOrEqual,
}

// constants are names for numbers.
var constants = map[string]number{
	"tcpflags": 13, "tcp-fin": 1, "tcp-syn": 2, "tcp-rst": 4, "tcp-push": 8, "tcp-ack": 16, "tcp-urg": 32, "tcp-ece": 64, "tcp-cwr": 128,
	"icmptype": 0, "icmpcode": 1, "icmp6type": 0, "icmp6code": 1,
}

// levels are the operators of arithmetic, the ones that bind least first, as in C.
var levels = []map[string]bpf.ALUOp{
	{"|": bpf.ALUOpOr},
	{"^": bpf.ALUOpXor},
	{"&": bpf.ALUOpAnd},
	{"<<": bpf.ALUOpShiftLeft, ">>": bpf.ALUOpShiftRight},
	{"+": bpf.ALUOpAdd, "-": bpf.ALUOpSub},
	{"*": bpf.ALUOpMul, "/": bpf.ALUOpDiv, "%": bpf.ALUOpMod},
}

// relation parses A = B. What only begins like one is left alone: ok is false then.
func (p *parser) relation() (n node, ok bool, err error) {
	start := p.at
	surely := p.ahead(1) == "[" // nothing else begins so
	a, err := p.value(0)
	if err == nil {
		cond, compared := comparisons[p.peek().text]
		if compared {
			t := p.next()
			b, err := p.value(0)
			if err != nil {
				return nil, true, err
			}
			if n, err = compare(a, cond, b); err != nil {
				return nil, true, t.wrong("%v", err)
			}
			return n, true, nil
		}
		if surely {
			return nil, true, p.peek().wrong("%v: want a comparison, such as tcp[tcpflags] & tcp-syn != 0", p.peek())
		}
	} else if surely {
		return nil, true, err
	}
	p.at = start
	return nil, false, nil
}

// value parses arithmetic of a level and those that bind more.
func (p *parser) value(level int) (value, error) {
	if level == len(levels) {
		return p.operand()
	}
	a, err := p.value(level + 1)
	for err == nil {
		t := p.peek()
		op, ok := levels[level][t.text]
		if !ok {
			return a, nil
		}
		p.next()
		var b value
		if b, err = p.value(level + 1); err == nil {
			a, err = operate(a, op, b, t)
		}
	}
	return nil, err
}

// operate folds constants.
func operate(a value, op bpf.ALUOp, b value, t token) (value, error) {
	n, ok := b.(number)
	if ok && n == 0 && (op == bpf.ALUOpDiv || op == bpf.ALUOpMod) {
		return nil, t.wrong("division by zero")
	}
	m, both := a.(number)
	if !ok || !both {
		return operation{op, a, b}, nil
	}
	switch op {
	case bpf.ALUOpOr:
		m |= n
	case bpf.ALUOpXor:
		m ^= n
	case bpf.ALUOpAnd:
		m &= n
	case bpf.ALUOpShiftLeft:
		m <<= n
	case bpf.ALUOpShiftRight:
		m >>= n
	case bpf.ALUOpAdd:
		m += n
	case bpf.ALUOpSub:
		m -= n
	case bpf.ALUOpMul:
		m *= n
	case bpf.ALUOpDiv:
		m /= n
	case bpf.ALUOpMod:
		m %= n
	}
	return m, nil
}

func (p *parser) operand() (value, error) {
	t := p.next()
	if t.text == "(" {
		v, err := p.value(0)
		if err == nil && !p.accept(")") {
			err = p.peek().wrong("%v: want the \")\" of column %d", p.peek(), t.at+1)
		}
		return v, err
	}
	if t.text == "len" {
		return length{}, nil
	}
	if c, ok := constants[t.text]; ok {
		return c, nil
	}
	if _, ok := families[t.text]; ok && p.accept("[") {
		return p.field(t.text)
	}
	n, err := strconv.ParseUint(t.text, 0, 32)
	if err != nil {
		return nil, t.wrong("%v is not a number", t)
	}
	return number(n), nil
}

// field parses what is behind the opening bracket.
func (p *parser) field(protocol string) (value, error) {
	at, err := p.value(0)
	if err != nil {
		return nil, err
	}
	size := uint32(1)
	if p.accept(":") {
		t := p.peek()
		if size, err = p.number(); err != nil {
			return nil, err
		}
		if size != 1 && size != 2 && size != 4 {
			return nil, t.wrong("%v: want 1, 2 or 4 bytes", t)
		}
	}
	if !p.accept("]") {
		return nil, p.peek().wrong("%v: want \"]\"", p.peek())
	}
	return field{protocol, at, int(size)}, nil
}
