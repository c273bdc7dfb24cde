package upstream

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// described is an upstream with the servers 10.2.0.2 at the ports.
func described(keepAlive int, ports ...uint16) *config.Upstream {
	c := &config.Upstream{Name: "app", KeepAlive: keepAlive, KeepAliveTimeout: time.Minute}
	for _, p := range ports {
		c.Servers = append(c.Servers, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 2, 0, 2}), p))
	}
	return c
}

func TestUpdateKeepsServersByAddress(t *testing.T) {
	for _, tt := range []struct {
		name        string
		old, fresh  []uint16
		turn        int // picks before
		picks       []uint16
		kept, freed int // idle connections, of two for each server
	}{
		{"nothing changes", []uint16{1, 2, 3}, []uint16{1, 2, 3}, 1, []uint16{2, 3, 1}, 6, 0},
		{"one more", []uint16{1, 2}, []uint16{1, 2, 3}, 1, []uint16{2, 3, 1}, 4, 0},
		{"another order", []uint16{1, 2, 3}, []uint16{3, 1, 2}, 2, []uint16{3, 1, 2}, 6, 0},
		{"one less", []uint16{1, 2, 3}, []uint16{1, 3}, 1, []uint16{3, 1, 3}, 4, 2},
		{"the last one less", []uint16{1, 2, 3}, []uint16{1, 2}, 2, []uint16{1, 2}, 4, 2},
		{"others", []uint16{1, 2}, []uint16{3, 4}, 1, []uint16{3, 4, 3}, 0, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := New(described(4, tt.old...))
			servers := map[uint16]*Server{}
			for _, s := range g.Servers {
				servers[s.Addr.Port()] = s
				for range 2 {
					s.Put(&Conn{Server: s})
				}
			}
			for range tt.turn {
				g.Pick(0)
			}
			freed := 0
			g.Update(described(4, tt.fresh...), 7, func(c *Conn) {
				if c.Idle() || !c.Server.Removed() {
					t.Error("a connection was evicted that is idle, or whose server stays")
				}
				freed++
			})
			kept := 0
			for i, s := range g.Servers {
				kept += s.IdleCount()
				if s.index != i || s.Addr.Port() != tt.fresh[i] || s.Removed() {
					t.Errorf("server %d is %+v", i, s)
				}
				if old := servers[s.Addr.Port()]; old != nil && old != s {
					t.Errorf("server %d is a new one", i)
				}
				delete(servers, s.Addr.Port())
			}
			if kept != tt.kept || freed != tt.freed {
				t.Errorf("%d connections kept and %d freed, want %d and %d", kept, freed, tt.kept, tt.freed)
			}
			for _, s := range servers {
				if c := new(Conn); s.Until != 7 || s.Put(c) != c {
					t.Error("a removed server keeps a connection")
				}
			}
			for _, want := range tt.picks {
				if s := g.Pick(0); s.Addr.Port() != want {
					t.Fatalf("picks %d, want %d", s.Addr.Port(), want)
				}
			}
		})
	}
}

func TestUpdateKeepsFailuresAndResizesPools(t *testing.T) {
	g := New(described(4, 1, 2))
	s := g.Servers[0]
	s.Failed(5)
	var c [4]Conn
	for i := range c {
		s.Put(&c[i])
	}
	var evicted []*Conn
	g.Update(described(1, 2, 1), 7, func(c *Conn) { evicted = append(evicted, c) })
	if fmt.Sprint(evicted) != fmt.Sprint([]*Conn{&c[0], &c[1], &c[2]}) {
		t.Error("not the oldest connections were evicted")
	}
	if s.Up(6) {
		t.Error("the failure of a server that stays is forgotten")
	}
	for idle := range s.Idle() {
		if idle != &c[3] {
			t.Error("not the newest connection is left")
		}
	}
	// Exchanges that have a removed server may go on to the others.
	g.Update(described(1, 2), 7, func(*Conn) {})
	if next := g.After(s, 6); next != g.Servers[0] {
		t.Errorf("after a removed server comes %v", next)
	}
}

func TestGroupContinues(t *testing.T) {
	g := New(described(1, 1))
	for _, tt := range []struct {
		name     string
		protocol config.ProxyProtocol
		want     bool
	}{
		{"app", "", true}, {"app", config.ProxyOff, true}, {"app", config.ProxyV1, false}, {"other", config.ProxyOff, false},
	} {
		if got := g.Continues(&config.Upstream{Name: tt.name, ProxyProtocol: tt.protocol}); got != tt.want {
			t.Errorf("%s with %q: %t", tt.name, tt.protocol, got)
		}
	}
	g.Remove(3, func(*Conn) {})
	if !g.Servers[0].Removed() || g.Pick(0) == nil {
		t.Error("a removed group has no server for the exchanges that know it")
	}
}
