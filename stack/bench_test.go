package stack

import "testing"

func BenchmarkHandOver(b *testing.B) {
	for name, port := range map[string]uint16{"owner": 29000, "round": 80} {
		b.Run(name, func(b *testing.B) {
			l, _ := idleLink(b)
			f := ackTo(port)
			for b.Loop() {
				l.deliver(f)
				l.flushFrames()
			}
		})
	}
}
