package worker

import (
	"fmt"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// quietTicks is how many ticks without a collection make a process idle.
	quietTicks = 5
	// idleHeap is the least heap, garbage included, worth a collection.
	idleHeap = 8 << 20
	// unmapTicks is how often the pages of the executable are unmapped: those in use
	// are some hundred page faults without I/O, 0.2 ms.
	unmapTicks = 5
	// firstUnmap is the tick of the first time: requests, if there are any, have shown by then
	// what they use.
	firstUnmap = 2
)

// Memory gives memory back to the system that a process does not use any more. Its
// owner calls Tick about once a second.
//
// The runtime collects when the heap has grown, so what a burst of connections left
// would stay in memory for as long as the worker is idle afterwards: up to two
// minutes, and for ever what the heap does not shrink by itself.
//
// Of the executable the kernel maps 64 KiB around each page that was ever touched, and
// the start, and what happens once in a while, touch much that requests do not: more
// than half of 9 MiB.
type Memory struct {
	samples    [2]metrics.Sample
	cycles     uint64 // collections so far
	quiet      int    // ticks since the last one that was not ours
	ticks      int
	executable []area // see executableAreas
}

// NewMemory watches the process. It reads /proc/self.
func NewMemory() (*Memory, error) {
	m := &Memory{}
	m.samples[0].Name = "/gc/cycles/total:gc-cycles"
	m.samples[1].Name = "/memory/classes/heap/objects:bytes"
	var err error
	if m.executable, err = executableAreas(); err != nil {
		return nil, fmt.Errorf("find where the executable is in memory: %w", err)
	}
	return m, nil
}

// Started gives back what only the start needed.
func (m *Memory) Started() {
	debug.FreeOSMemory()
	m.unmap()
}

// Tick collects once when the runtime has not for a while, and now and then unmaps
// what is not used of the executable.
func (m *Memory) Tick() {
	if m.ticks++; m.ticks%unmapTicks == firstUnmap {
		m.unmap()
	}
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

// unmap lets go of the pages of the executable. Those that are used come back from the
// page cache.
func (m *Memory) unmap() {
	for _, a := range m.executable {
		// It cannot fail on a file's pages, and then they would only stay.
		unix.Syscall(unix.SYS_MADVISE, a.start, a.end-a.start, unix.MADV_DONTNEED) //nolint:errcheck // see above
	}
}

// area is a part of the address space.
type area struct{ start, end uintptr }

// executableAreas are the areas of the executable that are as they are in the file:
// nobody can write to them, and nobody has (a linker's relocations would be lost).
func executableAreas() (areas []area, err error) {
	executable, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	var a area
	candidate := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			_, err := fmt.Sscanf(f[0], "%x-%x", &a.start, &a.end)
			candidate = err == nil && len(f) == 6 && f[5] == executable && (f[1] == "r-xp" || f[1] == "r--p")
		case candidate && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0":
			areas = append(areas, a)
		}
	}
	return areas, nil
}
