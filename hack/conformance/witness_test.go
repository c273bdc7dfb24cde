package conformance

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// witness is a backend that records every byte, reads it strictly, and answers each
// whole request with its number.
type witness struct {
	received, sent atomic.Uint64 // bytes
	busy           atomic.Int64  // connections whose last bytes are being read
	heads          atomic.Uint64 // complete request heads, those of whole requests included

	mu     sync.Mutex
	whole  []*message // in order; the answer to whole[i] says i
	faults []string   // what was not strictly conformant
	begun  []*message // heads whose body has not come yet, by the time they were seen
}

// witnessed is a position in what the witness saw.
type witnessed struct {
	whole, faults, begun int
}

func (r *rig) witness() *witness {
	r.t.Helper()
	l, err := r.Backend.Listen(origin)
	if err != nil {
		r.t.Fatal(err)
	}
	w := new(witness)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.serve(c) })
		}
	})
	r.t.Cleanup(func() {
		l.Close()
		r.worker.Stop() // cuts off the connections
		<-r.done
		running.Wait()
	})
	return w
}

// serve reads and answers one connection.
func (w *witness) serve(c net.Conn) {
	defer c.Close()
	var b []byte
	p := make([]byte, 32<<10)
	headSeen := false // of the request at the start of b
	for {
		n, err := c.Read(p)
		w.busy.Add(1)
		w.received.Add(uint64(n))
		b = append(b, p[:n]...)
		for len(b) > 0 {
			m, head, bad := parseRequest(b)
			if head && !headSeen {
				headSeen = true
				w.mu.Lock()
				w.begun = append(w.begun, m)
				w.mu.Unlock()
				if m.get("Expect") != "" && bad != nil {
					w.say(c, "HTTP/1.1 100 Continue\r\n\r\n")
				}
				w.heads.Add(1)
			}
			if errors.Is(bad, errIncomplete) {
				break
			}
			if bad != nil {
				w.mu.Lock()
				w.faults = append(w.faults, fmt.Sprintf("%v in %q", bad, b))
				w.mu.Unlock()
				w.busy.Add(-1)
				return
			}
			b = b[m.size:]
			headSeen = false
			w.mu.Lock()
			id := len(w.whole)
			w.whole = append(w.whole, m)
			w.mu.Unlock()
			w.say(c, answerTo(m, id))
		}
		w.busy.Add(-1)
		if err != nil {
			return
		}
	}
}

func answerTo(m *message, id int) string {
	body := fmt.Sprint(id)
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\n%s: %s\r\nContent-Length: %d\r\n\r\n", methodField, m.method, len(body))
	if m.method == "HEAD" {
		return head
	}
	return head + body
}

func (w *witness) say(c net.Conn, s string) {
	w.sent.Add(uint64(len(s)))
	_, _ = c.Write([]byte(s)) // a worker that has gone is seen by the next read
}

func (w *witness) mark() witnessed {
	w.mu.Lock()
	defer w.mu.Unlock()
	return witnessed{len(w.whole), len(w.faults), len(w.begun)}
}

// since returns what the witness saw after m.
func (w *witness) since(m witnessed) (whole, begun []*message, faults []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.whole[m.whole:]), slices.Clone(w.begun[m.begun:]), slices.Clone(w.faults[m.faults:])
}
