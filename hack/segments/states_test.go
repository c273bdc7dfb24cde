//go:build segments

package segments

import (
	"fmt"
	"time"
)

// state is one that a case brings the server's connection into.
type state struct {
	name  string
	setup func(p *peer) error
	lives func(p *peer) error // goes on from there as a peer would
}

var (
	listening = &state{"LISTEN", func(*peer) error { return nil }, func(p *peer) error {
		if err := p.connect(); err != nil {
			return err
		}
		return p.get("/")
	}}
	synReceived = &state{"SYN-RECEIVED", func(p *peer) error {
		p.say(segment{flags: syn, options: p.options})
		err := p.synAnswered()
		p.keepEcho = true
		return err
	}, func(p *peer) error {
		p.say(segment{flags: ack})
		return p.get("/")
	}}
	established = &state{"ESTABLISHED", func(p *peer) error {
		if err := p.connect(); err != nil {
			return err
		}
		return p.get("/")
	}, func(p *peer) error { return p.get("/") }}
	finWait1 = &state{"FIN-WAIT-1", func(p *peer) error {
		if err := p.connect(); err != nil {
			return err
		}
		p.got = nil
		p.sendData("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		fin, err := p.readUntil(patience, func() bool { return false })
		if err == nil && !fin {
			err = fmt.Errorf("no FIN")
		}
		return err
	}, func(p *peer) error {
		p.want++
		p.say(segment{flags: ack})
		return p.finAnswered()
	}}
	finWait2 = &state{"FIN-WAIT-2", func(p *peer) error {
		if err := finWait1.setup(p); err != nil {
			return err
		}
		p.want++
		p.say(segment{flags: ack})
		return nil
	}, (*peer).finAnswered}
	closing = &state{"CLOSING", func(p *peer) error {
		if err := finWait1.setup(p); err != nil {
			return err
		}
		return p.finAnswered()
	}, func(p *peer) error {
		p.want++
		p.say(segment{flags: ack})
		return p.finAgain()
	}}
	timeWait = &state{"TIME-WAIT", func(p *peer) error {
		if err := finWait2.setup(p); err != nil {
			return err
		}
		return p.finAnswered()
	}, (*peer).finAgain}
	// The response waits for the peer's window.
	closeWait = &state{"CLOSE-WAIT", func(p *peer) error {
		if err := p.connect(); err != nil {
			return err
		}
		p.got, p.window = nil, 8 // times 128
		p.sendData("GET /f/64k HTTP/1.1\r\nHost: x\r\n\r\n")
		if _, err := p.readUntil(patience, func() bool { return len(p.got) > 0 }); err != nil {
			return err
		}
		p.window = 0
		p.say(segment{flags: ack})
		time.Sleep(20 * time.Millisecond) // what left before comes
		for {
			s, ok := p.hear(20 * time.Millisecond)
			if !ok {
				break
			}
			p.note(&s)
			if s.tcp.SequenceNumber() == p.want {
				p.got, p.want = append(p.got, s.data...), p.want+uint32(len(s.data))
				p.say(segment{flags: ack})
			}
		}
		return p.finAnswered()
	}, func(p *peer) error {
		p.window = 1000
		p.say(segment{flags: ack})
		_, err := p.readUntil(patience, func() bool { return len(p.got) > 64<<10 })
		return err
	}}
	lastACK = &state{"LAST-ACK", func(p *peer) error {
		if err := established.setup(p); err != nil {
			return err
		}
		p.say(segment{flags: fin | ack})
		p.next++
		for end := time.Now().Add(patience); ; {
			s, ok := p.hear(time.Until(end))
			if !ok {
				return fmt.Errorf("no FIN")
			}
			p.note(&s)
			if s.tcp.Flags()&rst != 0 {
				return fmt.Errorf("reset")
			}
			if s.tcp.Flags()&fin != 0 {
				return nil
			}
		}
	}, (*peer).finAgain}

	states = []*state{listening, synReceived, established, finWait1, finWait2, closing, timeWait, closeWait, lastACK}
)

// finAnswered sends FIN, which has to be acknowledged.
func (p *peer) finAnswered() error {
	p.say(segment{flags: fin | ack})
	p.next++
	return p.acknowledged()
}

// finAgain sends the FIN again, which has to be acknowledged: the kernel does so at most every 500 ms.
func (p *peer) finAgain() error {
	time.Sleep(600 * time.Millisecond)
	for len(p.in) > 0 {
		<-p.in
	}
	p.say(segment{flags: fin | ack, seq: -1})
	return p.acknowledged()
}

func (p *peer) acknowledged() error {
	for end := time.Now().Add(patience); ; {
		s, ok := p.hear(time.Until(end))
		if !ok {
			return fmt.Errorf("FIN not acknowledged")
		}
		p.note(&s)
		if s.tcp.Flags()&rst != 0 {
			return fmt.Errorf("reset")
		}
		if s.tcp.AckNumber() == p.next {
			return nil
		}
	}
}
