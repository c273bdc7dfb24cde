package stack_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// An update that opens a closed window may be lost: it is said again until data come, and not for ever.
func TestWindowUpdateIsRepeatedUntilDataCome(t *testing.T) {
	const repeats = 5
	for answeredAfter := range repeats + 1 { // this many repetitions data come; never, if all of them
		net, now, updates := new(stacktest.Direct), time.Second, []time.Duration(nil)
		s, err := stack.New(stack.Config{
			Resolver: net, Waiter: net, FirstPort: 20000, LastPort: 29999, Links: []stack.Link{net.Link()},
			TCP: stack.TCPOptions{ReceiveBuffer: stack.Buffer{Min: 4 << 10, Default: 16 << 10, Max: 16 << 10}, NoAutoTuning: true},
		})
		if err != nil {
			t.Fatal(err)
		}
		s.SetClock(func() time.Duration { return now })
		l, err := s.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1)
		if err != nil {
			t.Fatal(err)
		}
		var conn *stack.Conn
		p := stacktest.Peer{Host: 2, Port: 5000, To: 80, Seq: 1000}
		closed, window := false, uint16(0)
		net.Sent = func(g stacktest.Segment) {
			p.Take(&g)
			if window = g.Window; closed {
				updates = append(updates, now)
			}
		}
		turn := func() {
			for range 3 { // whatever there is to be said of it
				s.Turn()
				if conn == nil {
					conn, _ = l.Accept()
				}
				s.Flush()
			}
		}
		send := func(flags byte, n int) {
			f := append([]byte(nil), p.Send(flags, "")...)
			f = append(f, make([]byte, n)...)
			stacktest.Finish(f)
			p.Seq += uint32(n)
			net.Put(f)
			turn()
			now += 10 * time.Millisecond // no ACK is held so long
			turn()
		}
		send(stacktest.SYN, 0)
		send(stacktest.ACK, 0)
		for range 1000 {
			if send(stacktest.ACK|stacktest.PSH, min(1400, int(window))); window == 0 {
				break
			}
		}
		if conn == nil || window != 0 {
			t.Fatalf("connection %v, window %d", conn, window)
		}
		now += 20 * time.Second
		turn()
		closed = true
		opened := now
		for b := make([]byte, 64<<10); ; {
			if n, err := conn.Read(b); n == 0 || err != nil {
				break
			}
		}
		want := []time.Duration{0}
		for i := range answeredAfter {
			want = append(want, want[i]+200*time.Millisecond<<i)
		}
		answer := answeredAfter < repeats
		for range 400 { // 20 s
			turn()
			if answer && len(updates) == len(want) {
				closed, answer = false, false
				send(stacktest.ACK|stacktest.PSH, 1)
				closed = true
			}
			now += 50 * time.Millisecond
		}
		for i := range updates {
			updates[i] -= opened
		}
		if n := s.LinkStats(1).UpdatesRepeated; !slices.Equal(updates, want) || n != uint64(answeredAfter) {
			t.Errorf("data after %d repetitions: updates after %v, want %v; %d repeated", answeredAfter, updates, want, n)
		}
		s.Close()
	}
}
