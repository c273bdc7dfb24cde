package guest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// TestTableChanged changes the NIC's indirection table under a running ringroad: new connections follow it, those to backends too, of
// which every request makes one.
func TestTableChanged(t *testing.T) {
	r := start(t, guest.queues[0], strings.ReplaceAll(configuration, `8080"]}`, `8080"], keepalive: 0}`))
	r.mustPredict(t, 8)
	table := slices.Clone(r.rss.Table)
	slices.Reverse(table)
	if err := setIndirection("nut", table); err != nil {
		t.Skip("the driver does not let the table be changed: ", err)
	}
	if err := r.WaitLine("the interface places flows in another way now", startLimit); err != nil {
		t.Fatal(err)
	}
	r.readRSS(t)
	if !slices.Equal(r.rss.Table, table) {
		t.Errorf("the table is %v", r.rss.Table)
	}
	r.mustPredict(t, 16)
}

// TestLinkDownAndUp takes the link away for two seconds under load.
func TestLinkDownAndUp(t *testing.T) {
	r := start(t, guest.queues[0], configuration)
	stop := make(chan struct{})
	var ok, failed, other atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			c := client(nextClient(door4), time.Minute)
			for {
				select {
				case <-stop:
					c.CloseIdleConnections()
					return
				default:
				}
				switch err := r.fetch(c, "http://"+door4.String()+"/bytes/20000"); {
				case err == nil:
					ok.Add(1)
				case isStatus(err, http.StatusBadGateway):
					failed.Add(1)
				default:
					other.Add(1)
					t.Error(err)
				}
			}
		})
	}
	served := func(more int64) {
		t.Helper()
		n := ok.Load()
		wait(t, time.Minute, "requests are served", func() (bool, string) {
			return ok.Load() >= n+more, fmt.Sprintf("%d, before %d; 502: %d", ok.Load(), n, failed.Load())
		})
	}
	served(24)
	if err := netlink.LinkSetDown(guest.nut); err != nil {
		t.Fatal(err)
	}
	<-time.After(2 * time.Second) // the length of the failure, not a wait for anything
	down := ok.Load()
	if err := netlink.LinkSetUp(guest.nut); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	served(1)
	back := time.Since(began)
	served(24)
	close(stop)
	all.Wait()
	t.Attr("requests", fmt.Sprintf("%d before, %d after, 502: %d, others: %d; back after %.1f s", down, ok.Load()-down, failed.Load(), other.Load(), back.Seconds()))
	if err := r.get(door4, "/", 10*time.Second); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	r.mustBeHome(t)
}

// TestFewerQueuesAreRefused asks for less queues than workers have sockets on.
func TestFewerQueuesAreRefused(t *testing.T) {
	if guest.driver != "igb" || !guest.zeroCopy {
		t.Skip("the kernel looks after sockets in zero-copy mode only, and virtio_net has no fewer")
	}
	queues := guest.queues[0]
	r := start(t, queues, configuration)
	// Not because the table names them.
	if err := setIndirection("nut", inTurn(1)); err != nil {
		t.Fatal(err)
	}
	err := setChannels("nut", 1)
	if err == nil {
		t.Fatal("the kernel took queues away that workers are bound to")
	}
	t.Attr("refused", err.Error())
	if err := setIndirection("nut", inTurn(queues)); err != nil {
		t.Fatal(err)
	}
	r.connect(t, 8)
}

// TestZeroCopyThatCannotBeHad demands it of a driver that copies: ringroad says so and does not start.
func TestZeroCopyThatCannotBeHad(t *testing.T) {
	if guest.zeroCopy {
		t.Skip("this driver has it")
	}
	prepare(t, guest.queues[0])
	r := launch(t, configuration+"zero_copy: on\n")
	if err := r.Wait(startLimit); err == nil {
		t.Error("it ended well")
	}
	if !strings.Contains(r.Output(), "zero-copy") {
		t.Errorf("the reason is not told:\n%s", r.Output())
	}
	t.Attr("error", lastLine(r.Output()))
}

// lastLine is the last line of a text that ends with one.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
