package sandbox

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data, which a filter reads in words of 32 bits.
const (
	offsetNumber       = 0
	offsetArchitecture = 4
	offsetArguments    = 16
)

// A rule says what becomes of a system call.
type rule struct {
	number uint32
	errno  unix.Errno // 0: it is allowed
	// any holds alternatives, each of conditions that must all hold. A call that
	// meets none is refused. Empty: whatever the arguments.
	any [][]condition
}

// A condition compares one word of an argument: word&mask == value.
type condition struct {
	offset      uint32
	mask, value uint32
}

// is compares an argument of type int, of which the kernel ignores the upper
// half.
func is(argument int, value uint32) condition { return masked(argument, ^uint32(0), value) }

// masked compares some bits of the lower half.
func masked(argument int, mask, value uint32) condition {
	return condition{offset: lower(argument), mask: mask, value: value}
}

// null compares a whole pointer.
func null(argument int) []condition {
	low := is(argument, 0)
	high := low
	high.offset = lower(argument) ^ 4 // the other half
	return []condition{low, high}
}

// lower is the offset of an argument's lower half.
func lower(argument int) uint32 {
	offset := offsetArguments + 8*uint32(argument)
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big-endian
		offset += 4
	}
	return offset
}

// assemble makes a filter of rules: what none of them names is refused with
// EPERM.
//
// Refused and not killed: a call that was forgotten on a rare path then fails
// where it is made, with an error that can be logged, and does not take every
// connection of the queue with it. To an intruder it is as closed one way as the
// other.
//
// Since Linux 5.11 the kernel evaluates rules that look at no argument once and
// keeps the answers in a bitmap, so the calls of the hot path never run this.
func assemble(architecture uint32, rules []rule) ([]bpf.RawInstruction, error) {
	load := func(offset uint32) bpf.Instruction { return bpf.LoadAbsolute{Off: offset, Size: 4} }
	refuse := func(e unix.Errno) bpf.Instruction { return bpf.RetConstant{Val: unix.SECCOMP_RET_ERRNO | uint32(e)} }
	allow := bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW}

	// Numbers mean nothing without the architecture: through int 0x80 a process
	// may use those of another one.
	program := []bpf.Instruction{
		load(offsetArchitecture),
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: architecture, SkipTrue: 1},
		refuse(unix.EPERM),
		load(offsetNumber),
	}
	seen := map[uint32]bool{}
	for _, r := range rules {
		if seen[r.number] {
			return nil, fmt.Errorf("assemble the system call filter: two rules for number %d", r.number)
		}
		seen[r.number] = true
		var body []bpf.Instruction
		for _, conditions := range r.any {
			// From the last one backwards: each jumps over what is there already.
			alternative := []bpf.Instruction{allow}
			for _, c := range slices.Backward(conditions) {
				alternative = slices.Concat([]bpf.Instruction{
					load(c.offset),
					bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: c.mask},
					bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.value, SkipFalse: uint8(len(alternative))},
				}, alternative)
			}
			body = append(body, alternative...)
		}
		switch {
		case r.errno != 0:
			body = append(body, refuse(r.errno))
		case r.any == nil:
			body = append(body, allow)
		default:
			// The number is no longer loaded, so no later rule can be looked at.
			body = append(body, refuse(unix.EPERM))
		}
		if len(body) > 255 {
			return nil, fmt.Errorf("assemble the system call filter: too many conditions for number %d", r.number)
		}
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: r.number, SkipFalse: uint8(len(body))})
		program = append(program, body...)
	}
	program = append(program, refuse(unix.EPERM))
	return bpf.Assemble(program)
}
