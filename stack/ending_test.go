package stack_test

import (
	"bytes"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
)

func TestLastSegmentsOfConnectionsTakeTheShortWay(t *testing.T) {
	const data, end = header.TCPFlagAck | header.TCPFlagPsh, header.TCPFlagFin | header.TCPFlagAck
	for _, c := range []struct {
		name        string
		clientFirst bool
		stamp       uint32
	}{
		{"our FIN first", false, 0},
		{"our FIN first, timestamps", false, 100},
		{"the client's FIN first", true, 0},
		{"the client's FIN first, timestamps", true, 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := puppetOf(t, false, false, serveClose)
			p.stamp = c.stamp
			p.connect()
			if c.clientFirst {
				p.say(end, "")
			} else {
				p.say(data, "x")
			}
			p.raw.seq++
			for s := p.hear(); s.Flags()&header.TCPFlagFin == 0; s = p.hear() {
			}
			before, _ := p.established()
			p.raw.ack++
			if c.clientFirst {
				p.say(header.TCPFlagAck, "")
			} else {
				p.say(end, "")
				p.raw.seq++
				for s := p.hear(); s.AckNumber() != p.raw.seq; s = p.hear() {
				}
			}
			p.l.eventually("netstack has forgotten", func() bool { return p.l.Stack.TCPStats().Endpoints == 2 })
			if in, _ := p.established(); in != before+1 {
				t.Errorf("%d segments took the short way instead of the last", in-before)
			}
			if c.clientFirst {
				return
			}
			p.raw.seq--
			p.say(end, "") // it comes again
			p.raw.seq++
			if s := p.hear(); s.Flags() != header.TCPFlagAck || s.AckNumber() != p.raw.seq || s.SequenceNumber() != p.raw.ack {
				t.Errorf("FIN that came again was answered with %v of %d", s.Flags(), s.AckNumber()-p.raw.seq)
			}
		})
	}
}

// What CloseWrite sends with the answer in one frame netstack has to know of: it is sent
// again when it is lost, and the connection ends.
func TestAnswerWithItsFINIsSentAgain(t *testing.T) {
	body := payload(100)
	l := start(t, nil, func(l *loop, e stack.Event) {
		switch d := e.Data.(type) {
		case *stack.Listener:
			if c, err := d.Accept(); err == nil {
				l.Stack.Poller().AddConn(c, stack.Readable, c)
			}
		case *stack.Conn:
			switch n, err := d.Read(make([]byte, 64)); {
			case n > 0:
				d.Write(body) //nolint:errcheck // the client tells
				d.CloseWrite()
				d.CloseWrite() // once is enough
			case err == io.EOF:
				d.Close()
			}
		}
	})
	l.listen("10.1.0.1:80")
	var lost atomic.Int32
	l.LoseToClient(func(f []byte) bool {
		tcp := header.TCP(f[header.EthernetMinimumSize+header.IPv4MinimumSize:])
		return tcp.Flags()&header.TCPFlagFin == 0 || lost.Add(1) > 1
	})
	c, err := l.Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(30 * time.Second)) //nolint:errcheck // shows in Read
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, body) {
		t.Fatalf("got %d bytes of %d, %v", len(got), len(body), err)
	}
	c.Close()
	l.eventually("the connection has ended", func() bool { return l.Stack.TCPStats().Endpoints == 1 })
	l.do(func() {
		s := l.Stack.LinkStats(1)
		if s.FinsMerged == 0 || s.TimeWait != 1 || l.Stack.TCPStats().Established != 0 {
			t.Errorf("%d FINs merged, %d connections in TIME_WAIT, %d established", s.FinsMerged, s.TimeWait, l.Stack.TCPStats().Established)
		}
	})
}
