package worker

import (
	"runtime/debug"
	"runtime/metrics"
)

// The runtime collects when the heap has grown, so what a burst of connections
// left would stay in memory for as long as the worker is idle afterwards: up to
// two minutes, and for ever what the heap does not shrink by itself.

const (
	// quietTicks is how many ticks without a collection make a worker idle.
	quietTicks = 5
	// idleHeap is the least heap, garbage included, worth a collection.
	idleHeap = 8 << 20
)

// Memory gives memory back to the system after a burst. Its owner calls Tick
// about once a second.
type Memory struct {
	samples [2]metrics.Sample
	cycles  uint64 // collections so far
	quiet   int    // ticks since the last one that was not ours
}

// NewMemory watches the process.
func NewMemory() *Memory {
	m := &Memory{}
	m.samples[0].Name = "/gc/cycles/total:gc-cycles"
	m.samples[1].Name = "/memory/classes/heap/objects:bytes"
	return m
}

// Tick collects once when the runtime has not for a while.
func (m *Memory) Tick() {
	metrics.Read(m.samples[:]) // stops nobody
	if n := m.samples[0].Value.Uint64(); n != m.cycles {
		m.cycles, m.quiet = n, 0
	}
	if m.quiet++; m.quiet != quietTicks || m.samples[1].Value.Uint64() < idleHeap {
		return
	}
	debug.FreeOSMemory()
	metrics.Read(m.samples[:])
	m.cycles = m.samples[0].Value.Uint64()
}
