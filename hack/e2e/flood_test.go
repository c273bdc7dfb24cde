package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

// TestFlood sends what belongs to no connection until the XDP program refuses it: connections that were open answer meanwhile, and
// new ones are opened; when it is over nothing is refused any more.
func TestFlood(t *testing.T) {
	route := func(verb string) {
		if out, err := shared.Edge.Run(5*time.Second, "ip", "route", verb, flood.Sources.String(), "via", lab.Client4.String()); err != nil {
			t.Errorf("route to the sources: %v, %s", err, out)
		}
	}
	route("add")
	defer route("del")
	r := start(t, bothFamilies)
	mac, err := flood.Gateway(shared.Edge, lab.EdgeClientLink)
	if err != nil {
		t.Fatal(err)
	}
	open4, open6 := httpClient(t, shared), httpClient(t, shared)
	mustGet(t, open4, nginx4)
	mustGet(t, open6, nginx6)
	for _, c := range []struct {
		kind    flood.Kind
		verdict string
	}{{flood.ACK, "drop_stray_ack"}, {flood.RST, "drop_stray"}, {flood.Fragment, "drop_stray_fragment"}, {flood.ICMP, "drop_stray_icmp"}} {
		t.Run(string(c.kind), func(t *testing.T) {
			before := snapshot(t, r)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error, 1)
			stop := make(chan struct{})
			go func() {
				_, err := flood.Send(shared.Client, "c0", mac, flood.Options{
					Kind: c.kind, To: netip.MustParseAddrPort(nginx4), Frames: 4_000_000, For: 10 * time.Second, Rate: 60_000,
				}, stop)
				done <- err
			}()
			dropped := func() float64 { return snapshot(t, r).Moved(before)["interfaces.e0.verdicts."+c.verdict] }
			for last := 0.0; last < 20_000 && ctx.Err() == nil; last = dropped() {
				mustGet(t, open4, nginx4)
				mustGet(t, open6, nginx6)
			}
			mustGet(t, httpClient(t, shared), nginx4) // a new connection
			if !guarding(t, r) {
				t.Error("the guard is not told of")
			}
			close(stop)
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			moved := snapshot(t, r).Moved(before)
			if n := moved["interfaces.e0.verdicts."+c.verdict]; n < 20_000 {
				t.Errorf("%v were refused: %v", n, moved)
			}
			// When it is over a stray is the stack's again, which answers it.
			for guarding(t, r) && ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond)
			}
			if guarding(t, r) {
				t.Error("the guard does not end")
			}
			mustGet(t, open4, nginx4)
			mustGet(t, open6, nginx6)
		})
	}
}

func snapshot(t *testing.T, r *lab.Ringroad) lab.Stats {
	t.Helper()
	s, err := r.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func guarding(t *testing.T, r *lab.Ringroad) bool {
	t.Helper()
	return snapshot(t, r)["stack.flood_guard"] != 0
}
