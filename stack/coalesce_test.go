package stack_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// Small segments that nobody reads fill the window, and nothing within it is dropped for want of memory. What was joined is read as
// it came.
func TestSmallSegmentsFillTheWindow(t *testing.T) {
	for _, size := range []int{40, 100, 400, 512, 513} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			net, now := new(stacktest.Direct), time.Second
			s, err := stack.New(stack.Config{
				Resolver: net, Waiter: net, FirstPort: 20000, LastPort: 29999, Links: []stack.Link{net.Link()},
				TCP: stack.TCPOptions{ReceiveBuffer: stack.Buffer{Min: 4 << 10, Default: 16 << 10, Max: 16 << 10}, NoAutoTuning: true},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			s.SetClock(func() time.Duration { return now })
			l, err := s.Listen(netip.MustParseAddrPort("10.1.0.1:80"), 1)
			if err != nil {
				t.Fatal(err)
			}
			var conn *stack.Conn
			p := stacktest.Peer{Host: 2, Port: 5000, To: 80, Seq: 1000}
			var last stacktest.Segment
			net.Sent = func(g stacktest.Segment) {
				p.Take(&g)
				last = g
			}
			send := func(flags byte, data []byte) {
				f := append(append([]byte(nil), p.Send(flags, "")...), data...)
				stacktest.Finish(f)
				p.Seq += uint32(len(data))
				net.Put(f)
				for range 6 {
					s.Turn()
					if conn == nil {
						conn, _ = l.Accept()
					}
					s.Flush()
					now += 2 * time.Millisecond
				}
			}
			send(stacktest.SYN, nil)
			send(stacktest.ACK, nil)
			var sent, read []byte
			for last.Window > 0 {
				data := make([]byte, min(size, int(last.Window)))
				for i := range data {
					data[i] = byte(len(sent)+i) ^ byte((len(sent)+i)>>8)
				}
				sent = append(sent, data...)
				if send(stacktest.ACK|stacktest.PSH, data); last.Acked != p.Seq {
					t.Fatalf("of %d bytes %d came, window %d", len(sent), len(sent)-int(p.Seq-last.Acked), last.Window)
				}
			}
			for b := make([]byte, 3000); ; {
				n, _ := conn.Read(b)
				if n == 0 {
					break
				}
				read = append(read, b[:n]...)
			}
			if !bytes.Equal(read, sent) {
				t.Errorf("%d bytes read, %d sent, or others", len(read), len(sent))
			}
			if n, m := conn.Buffered().Received, conn.ReceiveMemory(); n != 0 || m != 0 {
				t.Errorf("all is read, and there are %d bytes in %d bytes of memory", n, m)
			}
		})
	}
}
