package guest

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// changeTable changes the NIC's indirection table: new connections follow it, those to backends too.
func (r *rig) changeTable(t *testing.T) {
	r.mustPredict(t, 8, fresh4, fresh6)
	r.settle(t) // what connections have from before goes on by handover
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
	r.mustPredict(t, 16, fresh4, fresh6)
}

// takeLinkDown takes the link away for two seconds under load.
func (r *rig) takeLinkDown(t *testing.T) {
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
}

// takeQueue asks for less queues than workers have sockets on.
func (r *rig) takeQueue(t *testing.T) {
	if guest.driver != "igb" || !guest.zeroCopy {
		t.Skip("the kernel looks after sockets in zero-copy mode only, and virtio_net has no fewer")
	}
	// Not because the table names them.
	if err := setIndirection("nut", inTurn(1)); err != nil {
		t.Fatal(err)
	}
	err := setChannels("nut", 1)
	if err == nil {
		t.Fatal("the kernel took queues away that workers are bound to")
	}
	t.Attr("refused", err.Error())
	if err := setIndirection("nut", inTurn(r.queues)); err != nil {
		t.Fatal(err)
	}
	r.connect(t, 8, door4, door6)
}

// addQueues gives the NIC twice the queues: the workers are replaced, and each serves two from then on.
func (r *rig) addQueues(t *testing.T) {
	if guest.driver != "igb" {
		t.Skip("virtio_net has no more")
	}
	opened := strings.Count(r.Output(), queueOpen)
	began := time.Now()
	if err := setChannels("nut", 2*r.queues); err != nil {
		t.Fatal(err)
	}
	r.queues *= 2
	wait(t, startLimit, "the new workers have sockets on every queue", func() (bool, string) {
		return strings.Count(r.Output(), queueOpen) == opened+r.queues, r.Output()
	})
	r.waitServes(t)
	t.Attr("back", fmt.Sprintf("after %.1f s", time.Since(began).Seconds()))
	r.settle(t)
	before := r.stats(t)
	want := r.connect(t, 16, fresh4, fresh6)
	moved := r.stats(t).Moved(before)
	r.mustPlace(t, moved, want)
	var received []string
	for q := range r.queues {
		frames := moved[fmt.Sprintf("interfaces.nut.queues.%d.ours.rx_frames", q)]
		received = append(received, fmt.Sprintf("%.0f", frames))
		if frames == 0 {
			t.Errorf("nothing came in on queue %d", q)
		}
	}
	t.Attr("queues", fmt.Sprintf("received %s frames", strings.Join(received, ", ")))
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

// TestInterfaceGoneAndBack takes the interface away from its driver and gives it back. Ringroad ends with an error, and the next one works.
func TestInterfaceGoneAndBack(t *testing.T) {
	device, err := filepath.EvalSymlinks("/sys/class/net/nut/device")
	if err != nil {
		t.Fatal(err)
	}
	driver, err := filepath.EvalSymlinks(filepath.Join(device, "driver"))
	if err != nil {
		t.Fatal(err)
	}
	tell := func(what string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(driver, what), []byte(filepath.Base(device)), 0); err != nil {
			t.Fatal(err)
		}
	}
	queues := guest.queues[0]
	r := start(t, queues, configuration)
	began := time.Now()
	tell("unbind")
	if err := r.Wait(startLimit); err == nil {
		t.Error("it ended well")
	}
	t.Attr("error", lastLine(r.Output()))
	t.Attr("ended", fmt.Sprintf("after %.1f s", time.Since(began).Seconds()))
	if !strings.Contains(r.Output(), "interface nut: ") || !strings.Contains(r.Output(), "start ringroad again when it is back") {
		t.Errorf("the reason is not told:\n%s", r.Output())
	}
	resetBackendConnections()
	tell("bind")
	wait(t, startLimit, "the interface is back", func() (bool, string) {
		_, err := linkWithMAC(":01")
		return err == nil, fmt.Sprint(err)
	})
	if err := setUpNUT(); err != nil {
		t.Fatal(err)
	}
	r = start(t, queues, configuration)
	r.mustHaveMode(t)
	r.mustPredict(t, 8, door4, door6)
	r.mustBeHome(t)
}

// lastLine is the last line of a text that ends with one.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndexByte(text, '\n')+1:]
}
