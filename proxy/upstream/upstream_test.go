package upstream

import (
	"net/netip"
	"testing"
	"time"

	"ringroad/proxy/config"
)

func group(keepAlive, servers int) *Group {
	c := config.Upstream{Name: "app", KeepAlive: keepAlive, KeepAliveTimeout: time.Minute}
	for i := range servers {
		c.Servers = append(c.Servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 2}), uint16(8080+i)))
	}
	return New(&c)
}

func TestPickGoesRoundAndPassesOverFailedServers(t *testing.T) {
	const down = FailPeriod / 2
	tests := []struct {
		name    string
		servers int
		failed  []int // at loop time 1
		at      time.Duration
		want    []int
	}{
		{"one server", 1, nil, down, []int{0, 0, 0}},
		{"one server, failed", 1, []int{0}, down, []int{0, 0}},
		{"in turn", 3, nil, down, []int{0, 1, 2, 0, 1}},
		{"one of three failed", 3, []int{1}, down, []int{0, 2, 0, 2}},
		{"two of three failed", 3, []int{0, 2}, down, []int{1, 1, 1}},
		{"all failed", 3, []int{0, 1, 2}, down, []int{0, 1, 2, 0}},
		{"failed long ago", 3, []int{1}, 1 + FailPeriod, []int{0, 1, 2, 0}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := group(4, tt.servers)
			for _, i := range tt.failed {
				g.Servers[i].Failed(1)
			}
			for n, want := range tt.want {
				if s := g.Pick(tt.at); s != g.Servers[want] {
					t.Fatalf("pick %d: server %d, want %d", n, s.index, want)
				}
			}
		})
	}
}

func TestAfterReachesEveryOtherServerOnce(t *testing.T) {
	g := group(4, 4)
	g.Servers[3].Failed(0)
	s := g.Servers[2]
	var got []int
	for n := g.After(s, 1); n != nil && n != s; n = g.After(n, 1) {
		got = append(got, n.index)
	}
	if len(got) != 2 || got[0] != 0 || got[1] != 1 {
		t.Errorf("servers after 2: %v, want [0 1]", got)
	}
	if n := group(4, 1); n.After(n.Servers[0], 0) != nil {
		t.Error("the only server follows itself")
	}
}

func TestWorkedEndsTheFailPeriod(t *testing.T) {
	s := group(4, 2).Servers[0]
	s.Failed(0)
	if s.Up(1) {
		t.Fatal("a server that just failed is up")
	}
	s.Worked()
	if !s.Up(1) {
		t.Error("a server that works again is still passed over")
	}
}

func TestPoolKeepsTheNewest(t *testing.T) {
	s := group(2, 1).Servers[0]
	var c [4]Conn
	for i := range 2 {
		if e := s.Put(&c[i]); e != nil {
			t.Fatalf("put %d evicts with room left", i)
		}
	}
	if e := s.Put(&c[2]); e != &c[0] || c[0].Idle() {
		t.Fatal("a full pool does not give up the oldest")
	}
	s.Remove(&c[2])
	if s.Put(&c[3]) != nil {
		t.Fatal("no room after a removal")
	}
	if got := s.Take(); got != &c[3] || got.Idle() {
		t.Fatal("take does not return the newest")
	}
	if got := s.TakeOldest(); got != &c[1] {
		t.Fatal("the oldest is not the one left")
	}
	if s.Take() != nil || s.TakeOldest() != nil || s.IdleCount() != 0 {
		t.Fatal("an empty pool hands out connections")
	}
}

func TestPoolOfSizeZeroKeepsNothing(t *testing.T) {
	s := group(0, 1).Servers[0]
	var c Conn
	if s.Put(&c) != &c || c.Idle() || s.IdleCount() != 0 {
		t.Error("a connection was kept")
	}
}

func TestRemoveFromEveryPlace(t *testing.T) {
	for victim := range 3 {
		s := group(8, 1).Servers[0]
		var c [3]Conn
		for i := range c {
			s.Put(&c[i])
		}
		s.Remove(&c[victim])
		var left []*Conn
		for x := s.Take(); x != nil; x = s.Take() {
			left = append(left, x)
		}
		if len(left) != 2 || left[0] == &c[victim] || left[1] == &c[victim] {
			t.Errorf("after removing %d: %d left", victim, len(left))
		}
	}
}

func TestPickTakePutDoNotAllocate(t *testing.T) {
	g := group(2, 2)
	var c Conn
	if n := testing.AllocsPerRun(100, func() {
		s := g.Pick(0)
		s.Put(&c)
		s.Take()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
