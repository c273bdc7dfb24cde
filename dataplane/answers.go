package dataplane

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Answers says until when the steering program answers the SYNs of each receive queue of an interface by itself. It is memory that
// the program and all workers share.
type Answers struct {
	mem []byte // a word for each queue
}

// OpenAnswers maps the memory of [Interface.AnswersFD] for the first queues. The file may be closed then.
func OpenAnswers(f *os.File, queues int) (*Answers, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, 8*queues, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the answers of %d queues: %w", queues, err)
	}
	return &Answers{mem}, nil
}

// Until has the SYNs of a queue answered until a time of CLOCK_MONOTONIC; 0: not any more. Any goroutine may call it.
func (a *Answers) Until(queue int, t time.Duration) { word(a.mem, 8*queue).Store(uint64(t)) }

// Close unmaps the memory.
func (a *Answers) Close() error { return unix.Munmap(a.mem) }
