package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

const jumboMTU = 9000

// setMTU changes both ends of a veth of the edge.
func setMTU(t *testing.T, l *lab.Lab, link string, mtu int) {
	t.Helper()
	set := func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) }
	change(t, l.Edge, link, set)
	if link == lab.EdgeClientLink {
		change(t, l.Client, "c0", set)
	} else {
		change(t, l.Backend, "b0", set)
	}
}

// TestJumboFramesCarryBodies moves bodies through two workers in frames of 9000 bytes, which need several frames of the UMEM each. Where
// the kernels spread connections over the queues as they like, half of the packets are handed over.
func TestJumboFramesCarryBodies(t *testing.T) {
	w := upWide(t, lab.Options{Queues: 2, MTU: jumboMTU})
	for _, c := range []struct {
		name   string
		narrow string // the side that has an MTU of 1500
		rings  string
	}{
		{"both sides", "", "rings: {entries: 1024}"},
		{"client side", lab.EdgeBackendLink, "rings: {frame_bytes: 2KiB}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.narrow != "" {
				setMTU(t, w.Lab, c.narrow, 1500)
			}
			r := startIn(t, w.Lab, w.configuration(strings.ReplaceAll(bothFamilies, `8081"]}`, `8081"], keepalive: 0}`), c.rings))
			sample := startCapture(t, r, "ip and greater 1515 and tcp[6] & 15 == 0") // a byte of the sequence number
			families(t, func(t *testing.T, nginx, goServer string) {
				moveBodies(t, httpClient(t, w.Lab), "http://"+goServer, 10*mib, 1)
				for range 20 {
					c := httpClient(t, w.Lab)
					moveBodies(t, c, "http://"+goServer, 1, 1)
					moveBodies(t, c, "http://"+goServer, 9*1024, 1)
				}
				if err := serves(t, w.Lab, "http://"+nginx+"/"); err != nil {
					t.Error(err)
				}
			})
			longest := map[string]int{}
			for _, s := range sample.finish(t) { // and it checks that the frames are whole
				at := fmt.Sprintf("%s, inbound %v", s.link, s.inbound)
				longest[at] = max(longest[at], len(s.payload))
			}
			for _, link := range edgeLinks {
				for _, inbound := range []bool{true, false} {
					at := fmt.Sprintf("%s, inbound %v", link, inbound)
					// The stack keeps room for all TCP options in each segment.
					if n := longest[at]; link != c.narrow && n < jumboMTU-100 || link == c.narrow && n > 0 {
						t.Errorf("%s: segments of up to %d bytes, with an MTU of %d on all sides but %q", at, n, jumboMTU, c.narrow)
					}
				}
			}
			var moved lab.Stats // since the start
			wait(t, 10*time.Second, "every frame is back", func() (bool, string) {
				moved = stats(t, r)
				home, state := framesHome(moved, len(edgeLinks)*2)
				sent, received := handover(moved, "sent"), handover(moved, "received")
				return home && sent == received && sent > 0, fmt.Sprintf("%s; %.0f handed over, %.0f received", state, sent, received)
			})
			for _, lost := range []string{"rx_dropped", "rx_oversized", "tx_refused", "tx_invalid_descs", "checksum_errors", "handed_full"} {
				found := false
				for path, n := range moved {
					if strings.HasSuffix(path, "."+lost) {
						found = true
						if n != 0 {
							t.Errorf("%s is %v", path, n)
						}
					}
				}
				if !found {
					t.Errorf("there is no counter %s", lost)
				}
			}
			if c.narrow != "" {
				changeMTUs(t, w.Lab, r)
			}
		})
	}
}

// changeMTUs changes the MTUs of e0, which is 9000, and e1, which is 1500, while ringroad runs.
func changeMTUs(t *testing.T, l *lab.Lab, r *lab.Ringroad) {
	t.Helper()
	setMTU(t, l, lab.EdgeClientLink, 1500)
	wait(t, 10*time.Second, "the MTU is noticed", func() (bool, string) {
		return strings.Contains(r.Output(), `mtu="1500, was 9000"`), ""
	})
	soon(t, l, "http://"+nginx4+"/")
	// Now the program there that takes frames in one buffer only.
	change(t, l.Edge, lab.EdgeBackendLink, func(l netlink.Link) error { return netlink.LinkSetMTU(l, jumboMTU) })
	if err := r.Wait(stopLimit); err == nil {
		t.Error("the exit status is 0 although an interface does not fit any more")
	}
	mustSay(t, r.Output(), `interface e1 changed: MTU too large: 9000 needs another XDP program.*start ringroad again`)
}
