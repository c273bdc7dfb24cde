//go:build segments

package segments

import (
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"ringroad/hack/lab"
)

// trial is one case at one server.
type trial struct {
	name     string
	v6       bool
	local    netip.AddrPort
	to       uint16
	do       func(p *peer) string
	kernelIP bool // no flow of ringroad's: the kernel's IP sees it
	outcome  string
}

// table is all that is done to one server. firstPort is the first of the peers.
func table(to, firstPort uint16) (list []*trial) {
	alone := lone(to)
	var v6 bool
	add := func(name string, do func(p *peer) string) *trial {
		firstPort++
		t := &trial{name: name, v6: v6, local: netip.AddrPortFrom(peer4, firstPort), to: to, do: do}
		if v6 {
			t.name, t.local = name+", IPv6", netip.AddrPortFrom(peer6, firstPort)
		}
		if want := os.Getenv("SEGMENTS"); strings.Contains(t.name, want) {
			list = append(list, t)
		}
		return t
	}
	for _, v6 = range []bool{false, true} {
		for _, st := range states {
			for _, s := range onSegments {
				add(st.name+": "+s.name, in(st, s))
			}
		}
		for _, w := range ways {
			f := w.v4
			if v6 {
				f = w.v6
			}
			if f != nil {
				add("request, "+w.name, over(f)).kernelIP = w.name == headerAlone
				add("SYN, "+w.name, synOver(f)).kernelIP = w.name == headerAlone
			}
		}
		for _, e := range elsewhere {
			src, dst := e.src4, e.dst4
			if v6 {
				src, dst = e.src6, e.dst6
			}
			if src+dst != "" {
				add("SYN "+e.name, fromElsewhere(src, dst)).kernelIP = dst != ""
			}
		}
		for _, h := range handshakes {
			add("handshake with "+h.name, h.do)
		}
		for _, s := range stories {
			add(s.name, s.tell)
		}
		for _, e := range errors4and6 {
			if kind := e.type4; v6 && e.type6[0] == 0 || !v6 && kind[0] == 0 {
				continue
			}
			t := add("ICMP "+e.name, e.tell)
			t.local = netip.AddrPortFrom(alone(v6), t.local.Port())
			add("SYN-RECEIVED: ICMP "+e.name, e.tellHandshake)
		}
	}
	return list
}

// lone returns a function that returns addresses that no other peer of any server has.
func lone(to uint16) func(v6 bool) netip.Addr {
	next4, next6 := lone4, lone6
	if to == nginxPort {
		for range lonePeers / 2 {
			next4, next6 = next4.Next(), next6.Next()
		}
	}
	return func(v6 bool) (a netip.Addr) {
		if v6 {
			a, next6 = next6, next6.Next()
		} else {
			a, next4 = next4, next4.Next()
		}
		return a
	}
}

// runAll runs trials side by side.
func runAll(list []*trial) {
	limit := make(chan struct{}, 300)
	var all sync.WaitGroup
	for _, t := range list {
		limit <- struct{}{}
		all.Go(func() {
			t.outcome = t.do(newPeer(t.local, t.to))
			<-limit
		})
	}
	all.Wait()
}

// in makes the trial that sends a sample in a state.
func in(st *state, s sample) func(p *peer) string {
	return func(p *peer) string {
		if err := st.setup(p); err != nil {
			return "cannot begin: " + err.Error()
		}
		p.say(s.say...)
		o := p.outcome()
		for _, g := range s.say {
			if g.flags&fin != 0 && g.seq == 0 && strings.Contains(strings.ToLower(o), "ack+1") {
				return o + "; taken"
			}
		}
		if err := st.lives(p); err != nil {
			return o + "; then " + err.Error()
		}
		return o + "; lives"
	}
}

func TestMatrix(t *testing.T) {
	ringroad, nginx := table(ringroadPort, 2000), table(nginxPort, 32000)
	var ours, others []*trial
	for _, c := range ringroad {
		if c.kernelIP {
			others = append(others, c)
		} else {
			ours = append(ours, c)
		}
	}
	before := kernelTCP(t)
	runAll(ours)
	if moved := kernelTCP(t).Moved(before); len(moved) != 0 {
		t.Errorf("the kernel's TCP counted %v", moved)
	}
	runAll(others)
	runAll(nginx)
	// What depends on time may differ by chance, on a machine that does much else: then it is tried again.
	for range 2 {
		var again []*trial
		for i, r := range ringroad {
			if n := nginx[i]; !r.agrees(n) {
				r.move()
				n.move()
				again = append(again, r, n)
			}
		}
		runAll(again)
	}
	same := 0
	for i, r := range ringroad {
		n := nginx[i]
		why, known := expected(r.name, r.outcome)
		switch {
		case r.outcome == n.outcome:
			same++
			t.Logf("same   %s: %s", r.name, r.outcome)
		case known:
			t.Logf("known  %s: ringroad: %s, nginx: %s (%s)", r.name, r.outcome, n.outcome, why)
		default:
			t.Errorf("%s:\nringroad: %s\nnginx:    %s", r.name, r.outcome, n.outcome)
		}
	}
	t.Logf("%d of %d cases have the same outcome", same, len(ringroad))
}

// agrees reports whether the outcomes of two servers are as they are meant to be.
func (t *trial) agrees(n *trial) bool {
	_, known := expected(t.name, t.outcome)
	return known || t.outcome == n.outcome
}

// move gives a trial another port.
func (t *trial) move() { t.local = netip.AddrPortFrom(t.local.Addr(), t.local.Port()+10000) }

func kernelTCP(t *testing.T) lab.KernelTCP {
	t.Helper()
	k, err := shared.Edge.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	return k
}
