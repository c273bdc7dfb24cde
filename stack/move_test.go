package stack_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"ringroad/stack"
)

// mover relays from one connection to another with MoveTo, and with Read and Write where that does nothing. What it should have
// passed on it puts together by itself, of the bytes that the sender sends.
type mover struct {
	from, to *stack.Conn
	sends    []byte
	at       int    // of them, passed on so far
	want     []byte // what the receiver is to get
	out      []byte // read and not yet written
	moved    int    // by MoveTo
	full     int    // ErrFull came
	ended    bool
	failed   error
	random   *rand.Rand
}

func (m *mover) run() {
	for m.failed == nil && !m.ended {
		for len(m.out) > 0 {
			n, err := m.to.Write(m.out)
			m.want = append(m.want, m.out[:n]...)
			m.out = m.out[n:]
			if err != nil {
				m.fail(err)
				return
			}
		}
		head := make([]byte, m.random.IntN(2)*m.random.IntN(3000))
		for i := range head {
			head[i] = byte(m.random.Uint32())
		}
		most := m.random.IntN(100_000)
		n, err := m.from.MoveTo(m.to, head, most)
		if n > 0 {
			m.want = append(append(m.want, head...), m.sends[m.at:m.at+n]...)
			m.at += n
			m.moved += n
		}
		if n > most || n > 0 && n < stack.MoveBytes {
			m.failed = errors.New("MoveTo moved more than it should, or less than is worth it")
		}
		switch err {
		case stack.ErrFull:
			m.full++
			return
		case stack.ErrWouldBlock:
			return
		}
		if n > 0 {
			continue
		}
		p := make([]byte, 1+m.random.IntN(10_000))
		n, err = m.from.Read(p)
		if n > 0 && !bytes.Equal(p[:n], m.sends[m.at:m.at+n]) {
			m.failed = errors.New("Read returns others than the next bytes")
		}
		m.out = append(m.out, p[:n]...)
		m.at += n
		if err == io.EOF {
			m.ended = true
			m.to.CloseWrite()
		} else if err != nil && n == 0 {
			m.fail(err)
			return
		}
	}
}

func (m *mover) fail(err error) {
	if err != stack.ErrWouldBlock {
		m.failed = err
	}
}

// moving is a relay of one client to a backend.
type moving struct {
	loop     *loop
	up, down *mover
}

// startMoving connects a client and a backend by way of the stack.
func startMoving(t *testing.T, seed uint64, up, down []byte, configure func(*stack.Config)) (m *moving, client, backend net.Conn) {
	m = &moving{}
	l := start(t, configure, func(l *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, err := l.Stack.Connect(netip.MustParseAddrPort("10.2.0.2:8080"))
			if err != nil {
				t.Error(err)
				return
			}
			m.up = &mover{from: c, to: b, sends: up, random: rand.New(rand.NewPCG(seed, 1))}
			m.down = &mover{from: b, to: c, sends: down, random: rand.New(rand.NewPCG(seed, 2))}
			l.Stack.Poller().AddConn(c, stack.Readable|stack.Writable, m)
			l.Stack.Poller().AddConn(b, stack.Readable|stack.Writable, m)
			return
		}
		if m.down.from.Established() {
			m.up.run()
		}
		m.down.run()
	})
	m.loop = l
	l.listen("10.1.0.1:80")
	ln, err := l.Backend.Listen("10.2.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	client, err = l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	backend, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{client, backend} {
		c.SetDeadline(time.Now().Add(60 * time.Second)) //nolint:errcheck // shows in Read
		t.Cleanup(func() { c.Close() })
	}
	return m, client, backend
}

// The bytes of both directions arrive as they were sent, with every head in its place, whatever is lost, however small the
// buffers are and whoever is slow; and nothing of them is left in the buffers or in the accounts of their memory.
func TestMoveTo(t *testing.T) {
	lossy := func(percent int) func([]byte) bool {
		random := rand.New(rand.NewPCG(7, uint64(percent)))
		return func([]byte) bool { return random.IntN(100) >= percent }
	}
	small := func(c *stack.Config) {
		c.TCP.SendBuffer = stack.Buffer{Min: 4 << 10, Default: 40 << 10, Max: 60 << 10}
		c.TCP.ReceiveBuffer = stack.Buffer{Min: 4 << 10, Default: 80 << 10, Max: 100 << 10}
	}
	for _, test := range []struct {
		name      string
		configure func(*stack.Config)
		lost      int // per cent
		slow      bool
		full      bool // ErrFull has to come
	}{
		{"as it is", nil, 0, false, false},
		{"lost frames", nil, 1, false, false},
		{"small buffers", small, 0, false, true},
		{"slow receivers", nil, 0, true, false},
		{"all of it", small, 1, true, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			up, down := payload(1_500_000), payload(2_000_000)[300_000:]
			m, client, backend := startMoving(t, 1, up, down, test.configure)
			if test.lost > 0 {
				m.loop.LoseFromClient(lossy(test.lost))
				m.loop.LoseToClient(lossy(test.lost))
				m.loop.LoseFromBackend(lossy(test.lost))
				m.loop.LoseToBackend(lossy(test.lost))
			}
			got := make(chan []byte, 2)
			for i, c := range []net.Conn{client, backend} {
				sends := [][]byte{up, down}[i]
				go func() {
					if _, err := c.Write(sends); err != nil {
						t.Error("write:", err)
					}
					c.(interface{ CloseWrite() error }).CloseWrite() //nolint:errcheck // shows in Read
				}()
			}
			receive := func(c net.Conn) []byte {
				if test.slow {
					time.Sleep(300 * time.Millisecond) // the buffers fill up
				}
				b, err := io.ReadAll(c)
				if err != nil {
					t.Error("read:", err)
				}
				return b
			}
			go func() { got <- receive(client) }()
			atBackend, atClient := receive(backend), <-got
			m.loop.do(func() {
				for name, d := range map[string]struct {
					*mover
					got []byte
				}{"up": {m.up, atBackend}, "down": {m.down, atClient}} {
					if d.failed != nil || d.at != len(d.sends) || !bytes.Equal(d.got, d.want) {
						t.Errorf("%s: %v: of %d bytes %d were passed on; the receiver got %d of %d, or others", name, d.failed, len(d.sends), d.at, len(d.got), len(d.want))
					}
					if d.moved < 50_000 {
						t.Errorf("%s: only %d bytes were moved", name, d.moved)
					}
				}
				if test.full && m.up.full+m.down.full == 0 {
					t.Error("no send buffer was full")
				}
				for _, c := range []*stack.Conn{m.up.from, m.up.to} {
					if b := c.Buffered(); b.Received != 0 {
						t.Errorf("%d bytes are left in a receive buffer", b.Received)
					}
					if n := c.ReceiveMemory(); n != 0 {
						t.Errorf("%d bytes of memory are left of what was received", n)
					}
				}
			})
		})
	}
}

// Where nothing can be moved nothing is done.
func TestMoveToDoesNothing(t *testing.T) {
	m, _, backend := startMoving(t, 2, nil, nil, nil)
	m.loop.eventually("the backend is connected", func() bool { return m.down != nil && m.down.from.Established() })
	m.loop.do(func() { m.up.ended, m.down.ended = true, true }) // nothing is relayed for now
	const sent = 50_000
	if _, err := backend.Write(payload(sent)); err != nil {
		t.Fatal(err)
	}
	m.loop.eventually("all is received", func() bool { return m.down.from.Buffered().Received == sent })
	from, to := m.down.from, m.down.to
	m.loop.do(func() {
		try := func(what string, most int) {
			t.Helper()
			if n, err := from.MoveTo(to, []byte("head"), most); n != 0 || err != nil || from.Buffered().Received != sent || to.Buffered().Sent > 1 {
				t.Errorf("%s: %d bytes, %v; %+v, %+v", what, n, err, from.Buffered(), to.Buffered())
			}
		}
		try("less than is worth it", stack.MoveBytes-1)
		to.CloseWrite()
		try("behind CloseWrite", sent)
		to.Abort()
		try("to what is closed", sent)
		from.Abort()
		if n, err := from.MoveTo(to, nil, sent); n != 0 || err != nil {
			t.Errorf("from what is closed: %d bytes, %v", n, err)
		}
	})
}
