package bpf

import (
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// madeUp runs s with four random bytes at each of some places of the frame, as a flood of made-up sources has them: what the program looks
// at next is then as seldom in the cache. An address there begins with 198.
func madeUp(t testing.TB, s *Steer, frame []byte, at ...int16) *ebpf.Program {
	t.Helper()
	next, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { next.Close() })
	if s != nil {
		if err := next.Put(uint32(0), s.Program()); err != nil {
			t.Fatal(err)
		}
	}
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, 0, asm.Word), // data
		asm.LoadMem(asm.R2, asm.R6, 4, asm.Word), // data_end
		asm.Mov.Reg(asm.R3, asm.R7),
		asm.Add.Imm(asm.R3, int32(len(frame))),
		asm.JGT.Reg(asm.R3, asm.R2, "call"),
	}
	if len(at) > 0 {
		code = append(code, asm.FnGetPrandomU32.Call(), asm.And.Imm(asm.R0, -256), asm.Or.Imm(asm.R0, 198))
	}
	for _, offset := range at {
		code = append(code, asm.StoreMem(asm.R7, offset, asm.R0, asm.Word))
	}
	code = append(code,
		asm.Mov.Reg(asm.R1, asm.R6).WithSymbol("call"),
		asm.LoadMapPtr(asm.R2, next.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, 1), // XDP_DROP
		asm.Return(),
	)
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, AttachType: ebpf.AttachXDP, Instructions: code, License: "Dual BSD/GPL"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// BenchmarkFlood measures what a frame of each kind of flood takes of the program, each of another source, and next to it one of a connection;
// the kernel repeats it b.N times in one system call. "nothing" is what making up the sources takes, and is part of the others.
func BenchmarkFlood(b *testing.B) {
	const source, source6, quoted = 14 + 12, 14 + 8 + 12, 14 + 20 + 8 + 16
	for _, c := range []struct {
		name  string
		frame []byte
		at    []int16
	}{
		{"nothing", toListener("192.0.2.7", syn(40001, 80)), []int16{source}},
		{"connection", toListener("192.0.2.7", tcp(40000, 80)), nil},
		{"syn", toListener("192.0.2.7", syn(40001, 80)), []int16{source}},
		{"ack", toListener("192.0.2.7", tcp(40001, 80)), []int16{source}},
		{"rst", toListener("192.0.2.7", poke(tcp(40001, 80), 13, 0x04)), []int16{source}},
		{"fragment", ethernet(ip4With(header4{id: 9, flags: 0x2000}, client4, own4, protoTCP, tcp(40001, 80))), []int16{source}},
		{"icmp", ethernet(ip4(client4, own4, protoICMP, icmpError(3, 4, 1400, ip4(own4, client4, protoTCP, tcp(80, 40001))))), []int16{source, quoted}},
		{"syn IPv6", toListener("2001:db8::7", syn(40001, 80)), []int16{source6}},
		{"rst IPv6", toListener("2001:db8::7", poke(tcp(40001, 80), 13, 0x04)), []int16{source6}},
	} {
		b.Run(c.name, func(b *testing.B) {
			s, _, table := guarded(b, false, 1)
			table.Mark(flowOf(client4, 40000, own4, 80))
			table.Guard(time.Hour, true)
			for i := range table.flood.Cpu {
				table.flood.Cpu[i].Syns = table.now() + uint64(time.Hour)
			}
			if c.name == "nothing" {
				s = nil
			}
			p := madeUp(b, s, c.frame, c.at...)
			_, took, err := p.Benchmark(c.frame, b.N, func() {})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(took.Nanoseconds()), "ns/frame") // as the kernel says, but for when it let others run
			b.ReportMetric(0, "ns/op")
		})
	}
}
