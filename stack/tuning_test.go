package stack_test

import (
	"net"
	"sync"
	"testing"
	"time"

	"ringroad/stack"
)

// One connection that brings a body has a receive buffer as large as it can use; several have
// no more together than the frames hold, unless they are far away.
func TestReceiveBuffersShareTheFrames(t *testing.T) {
	const defaultBuffer, held = 64 << 10, 1 << 20
	for name, tt := range map[string]struct {
		clients int
		away    time.Duration // what the handshake takes longer
	}{"one": {1, 0}, "eight": {8, 0}, "eight far away": {8, 40 * time.Millisecond}} {
		clients := tt.clients
		var mu sync.Mutex
		var conns []*stack.Conn
		l := start(t, func(c *stack.Config) {
			c.Links[0].ReceiveBytes = held
			c.TCP.ReceiveBuffer = stack.Buffer{Min: 4 << 10, Default: defaultBuffer, Max: 4 << 20}
		}, func(l *loop, e stack.Event) {
			if ln, ok := e.Data.(*stack.Listener); ok {
				for c, err := ln.Accept(); err == nil; c, err = ln.Accept() {
					l.Stack.Poller().AddConn(c, stack.Readable, c)
					mu.Lock()
					conns = append(conns, c)
					mu.Unlock()
				}
				return
			}
			c := e.Data.(*stack.Conn)
			b := make([]byte, 64<<10)
			for _, err := c.Read(b); err == nil; _, err = c.Read(b) {
			}
		})
		l.listen("10.1.0.1:80")
		dialed := make([]net.Conn, clients)
		l.LoseFromClient(func([]byte) bool { time.Sleep(tt.away); return true })
		for i := range dialed {
			c, err := l.Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			dialed[i] = c
		}
		l.LoseFromClient(nil)
		// In turns, so that all are known before one has a buffer that it cannot give back.
		part := make([]byte, 128<<10)
		for range 32 {
			for _, c := range dialed {
				if _, err := c.Write(part); err != nil {
					t.Fatal(err)
				}
			}
		}
		l.do(func() {
			most, sum := 0, 0
			for _, c := range conns {
				room := c.Buffered().ReceiveRoom
				most = max(most, room)
				sum += room
			}
			if clients == 1 && most < defaultBuffer { // it began with half of that
				t.Errorf("%s: the buffer of the only connection holds %d bytes", name, most)
			}
			// Half of the frames, but the first ones may have grown before the others came; far away, four times as much.
			if beyond := sum > held; beyond != (tt.away > 0) {
				t.Errorf("%s: the buffers hold %d bytes, the frames %d", name, sum, held)
			}
		})
		for _, c := range dialed {
			c.Close()
		}
	}
}
