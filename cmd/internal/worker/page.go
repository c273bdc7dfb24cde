package worker

import (
	"fmt"
	"math"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/dataplane"
	"ringroad/proxy"
)

// A page is the memory in which a worker shows its counters and gauges. The
// worker's loop writes it, the master reads it, and what a worker showed last is
// still there when it has died or is stuck.
//
// It is a row of 64-bit words: the header, and then the fields of all statistics
// in the order of values.each. Both sides know the order from the queues that the
// worker has, and neither knows a name.

// Words of the header.
const (
	wordSequence = iota // odd while the loop writes (a seqlock)
	wordTime            // of the reading, ns since 1970; 0: none yet
	wordTurns           // proxy.Pulse
	wordPhase
	headerWords
)

// readAttempts is how often a reader looks again when the loop writes meanwhile.
// A worker that died while it wrote is read as it is.
const readAttempts = 100

// Page is one process's view of the page.
type Page struct {
	mem    []byte
	words  []atomic.Uint64
	layout *values
}

// NewPage makes the memory for a worker with these links, and the master's view of
// it.
func NewPage(links []Link) (*Page, *os.File, error) {
	fd, err := unix.MemfdCreate("ringroad-statistics", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, nil, fmt.Errorf("make the statistics page: %w", err)
	}
	f := os.NewFile(uintptr(fd), "statistics")
	if err := f.Truncate(int64(newValues(links).words() * 8)); err != nil {
		f.Close() //nolint:errcheck // the other error says more
		return nil, nil, fmt.Errorf("make the statistics page: %w", err)
	}
	p, err := OpenPage(f, links)
	if err != nil {
		f.Close() //nolint:errcheck // the other error says more
		return nil, nil, err
	}
	return p, f, nil
}

// OpenPage maps the memory of a worker with these links.
func OpenPage(f *os.File, links []Link) (*Page, error) {
	p := &Page{layout: newValues(links)}
	size := p.layout.words() * 8
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("map the statistics page: %w", err)
	}
	if info.Size() != int64(size) {
		return nil, fmt.Errorf("map the statistics page: it has %d bytes, want %d", info.Size(), size)
	}
	p.mem, err = unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the statistics page: %w", err)
	}
	p.words = wordsOf(p.mem)
	return p, nil
}

// Close unmaps the page.
func (p *Page) Close() error { return unix.Munmap(p.mem) }

// pulse is where the loop shows that it lives.
func (p *Page) pulse() *proxy.Pulse { return pulseAt(p.mem[wordTurns*8:]) }

// Beat returns how many turns the loop has made, and what it was doing last.
func (p *Page) Beat() (turns uint64, phase proxy.Activity) {
	return p.words[wordTurns].Load(), proxy.Activity(p.words[wordPhase].Load())
}

// Clear makes the page that of a worker which has not written yet.
func (p *Page) Clear() {
	for i := range p.words {
		p.words[i].Store(0)
	}
}

// publish shows v, read at the given time. Only the loop calls it.
func (p *Page) publish(v *values, at time.Time) {
	p.words[wordSequence].Add(1)
	i := headerWords
	v.each(func(words []uint64) {
		for _, n := range words {
			p.words[i].Store(n)
			i++
		}
	})
	p.words[wordTime].Store(uint64(at.UnixNano()))
	p.words[wordSequence].Add(1)
}

// Reading is a part of what a worker shows.
type Reading struct {
	Proxy    proxy.Stats
	Handover dataplane.HandoverStats
}

// Read returns a part of what the worker showed last.
func (p *Page) Read() Reading {
	v, _ := p.read()
	return Reading{Proxy: v.proxy, Handover: v.handover}
}

// read returns what the worker showed last, and when; the zero time: nothing yet.
func (p *Page) read() (v *values, at time.Time) {
	v = p.layout.empty()
	for range readAttempts {
		before := p.words[wordSequence].Load()
		i := headerWords
		v.each(func(words []uint64) {
			for k := range words {
				words[k] = p.words[i].Load()
				i++
			}
		})
		if at := p.words[wordTime].Load(); at != 0 && at <= math.MaxInt64 {
			v.at = time.Unix(0, int64(at))
		}
		if before%2 == 0 && p.words[wordSequence].Load() == before {
			break
		}
	}
	return v, v.at
}
