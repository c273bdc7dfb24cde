package guest

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// TestQueues runs ringroad on each number of queues that the machine is for, with as many workers. The first goes through changes of
// the NIC, too.
func TestQueues(t *testing.T) {
	for i, queues := range guest.queues {
		t.Run(fmt.Sprint(queues), func(t *testing.T) {
			r := start(t, queues, configuration)
			r.try(t, "Relay", r.relay)
			if i > 0 {
				return
			}
			r.try(t, "TableChanged", r.changeTable)
			r.try(t, "LinkDownAndUp", r.takeLinkDown)
			r.try(t, "FewerQueues", r.takeQueue)
			r.try(t, "MoreQueues", r.addQueues)
		})
	}
}

// relay relays over connections that the NIC's own RSS must bring where it is predicted, and large bodies through each worker.
func (r *rig) relay(t *testing.T) {
	r.mustHaveMode(t)
	if r.rss != nil {
		t.Attr("rss", fmt.Sprintf("key %s, table %d, key told %v", short(r.rss.Key), len(r.rss.Table), !r.rss.KeyAssumed))
	}
	before, interrupts := r.stats(t), interrupts(t)
	want := r.connect(t, 32, door4, door6)
	r.moveBodies(t, want)
	after := r.stats(t)
	moved := after.Moved(before)
	r.tellInterrupts(t, interrupts, moved)
	r.mustPlace(t, moved, want)
	r.mustWakeOnDemand(t, after, 1)
}

// queueOpen is what a worker says of each socket.
const queueOpen = `msg="queue open" `

// mustHaveMode checks what the workers read back of their sockets (XDP_OPTIONS).
func (r *rig) mustHaveMode(t *testing.T) {
	t.Helper()
	opened := strings.Count(r.Output(), queueOpen)
	modes := strings.Count(r.Output(), fmt.Sprintf("mode=native zero_copy=%v", guest.zeroCopy))
	if opened != r.queues || modes != r.queues {
		t.Errorf("%d queues, %d in the mode wanted, want %d:\n%s", opened, modes, r.queues, r.Output())
	}
	mode := "copies"
	if guest.zeroCopy {
		mode = "zero-copy"
	}
	t.Attr("mode", fmt.Sprintf("%s on %d of %d", mode, modes, opened))
}

// mustPredict connects from many ports and checks where that went.
func (r *rig) mustPredict(t *testing.T, connections int, doors ...netip.AddrPort) {
	t.Helper()
	before := r.stats(t)
	want := r.connect(t, connections, doors...)
	r.mustPlace(t, r.stats(t).Moved(before), want)
}

// connect makes connections from many ports to each of some doors, and returns how many each worker must get by the NIC's key and table.
func (r *rig) connect(t *testing.T, connections int, doors ...netip.AddrPort) (want []int) {
	t.Helper()
	want = make([]int, r.workers)
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for range connections {
		for _, to := range doors {
			from := nextClient(to)
			want[r.workerOf(from, to)]++
			slots <- struct{}{}
			all.Go(func() {
				defer func() { <-slots }()
				c := client(from, 20*time.Second)
				defer c.CloseIdleConnections()
				for range 3 {
					if err := r.fetch(c, "http://"+to.String()+"/bytes/3000"); err != nil {
						t.Errorf("%v: %v", from, err)
						return
					}
				}
			})
		}
	}
	all.Wait()
	return want
}

// mustPlace checks that every worker got its connections, and that what backends sent came in at the worker that had asked.
func (r *rig) mustPlace(t *testing.T, moved lab.Stats, want []int) {
	t.Helper()
	got := make([]int, r.workers)
	for w := range got {
		got[w] = int(moved[fmt.Sprintf("workers.%d.proxy.clients_accepted", w)])
	}
	n := r.handedOver(moved)
	if !r.predicts() {
		if sum(got) != sum(want) {
			t.Errorf("connections of the workers: %v, want %d in all", got, sum(want))
		}
		t.Attr("placed", fmt.Sprintf("%v, which nobody can predict here; handed over %.0f of %.0f frames", got, n, r.sum(moved, "ours.rx_frames")))
		return
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("connections of the workers: %v, by RSS %v", got, want)
	}
	if n != 0 {
		t.Errorf("%.0f frames came in on the queue of another worker: %v", n, handovers(moved))
	}
	t.Attr("placed", fmt.Sprintf("%v as predicted, handed over %.0f of %.0f frames", got, n, r.sum(moved, "ours.rx_frames")))
}

func sum(counts []int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

// moveBodies moves a large body through every worker, all at the same time: to the client through the even ones, from it through the odd.
// It adds their connections to those that each worker must get.
func (r *rig) moveBodies(t *testing.T, want []int) {
	t.Helper()
	size := int64(mib)
	if r.queues == guest.queues[0] && guest.zeroCopy {
		size = 10 * mib // an emulated machine takes seconds for each
	}
	sum, _, err := backend.Sum(backend.Body("bytes", size))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var all sync.WaitGroup
	for w := range r.workers {
		want[w]++
		all.Go(func() {
			c := client(r.clientFor(w, door4), time.Minute)
			defer c.CloseIdleConnections()
			move := r.download
			if w%2 == 1 {
				move = r.upload
			}
			if err := move(c, size, sum); err != nil {
				t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	all.Wait()
	t.Attr("bodies", fmt.Sprintf("%d of %d MB, %.1f s", r.workers, size/mib, time.Since(began).Seconds()))
}

func (r *rig) download(c *http.Client, size int64, sum string) error {
	response, err := c.Get(fmt.Sprintf("http://%v/bytes/%d", door4, size))
	if err != nil {
		return err
	}
	r.asked.Add(1)
	defer response.Body.Close()
	if got, n, err := backend.Sum(response.Body); err != nil || got != sum {
		return fmt.Errorf("body of %d bytes with sum %s, want %s (%v)", n, got, sum, err)
	}
	return nil
}

// upload sends a body to the peer's server, which answers 422 when its sum is another.
func (r *rig) upload(c *http.Client, size int64, sum string) error {
	response, err := c.Post(fmt.Sprintf("http://%v/digest?sha256=%s", door4, sum), "", io.NopCloser(backend.Body("bytes", size)))
	if err != nil {
		return err
	}
	return r.discard(response)
}

// interrupts counts those of the NIC's queues, which igb calls by the interface's name.
func interrupts(t *testing.T) (sum float64) {
	t.Helper()
	table, err := os.ReadFile("/proc/interrupts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		if !strings.Contains(line, " nut-") {
			continue
		}
		for _, f := range strings.Fields(line)[1:] {
			n, err := strconv.Atoi(f)
			if err != nil {
				break
			}
			sum += float64(n)
		}
	}
	return sum
}

// tellInterrupts says how many interrupts the NIC has raised since there were so many, for how many frames.
func (r *rig) tellInterrupts(t *testing.T, before float64, moved lab.Stats) {
	t.Helper()
	if guest.driver == "igb" {
		t.Attr("interrupts", fmt.Sprintf("%.0f for %.0f frames", interrupts(t)-before, r.sum(moved, "ours.rx_frames")+r.sum(moved, "ours.tx_frames")))
	}
}

// mustWakeOnDemand checks that the driver is called to send when it asks for that, at most so many times for each kick in zero-copy
// mode. Drivers of Intel always ask: their need-wakeup flag of the TX ring is never cleared (igb, ixgbe, i40e, ice, igc).
func (r *rig) mustWakeOnDemand(t *testing.T, s lab.Stats, most float64) {
	t.Helper()
	calls, saved, kicks := r.sum(s, "ours.kick_calls"), r.sum(s, "ours.kick_saved"), r.sum(s, "ours.kicks")
	t.Attr("tx-kicks", fmt.Sprintf("%.0f calls, %.0f saved of %.0f, for %.0f frames; fill wake-ups %.0f",
		calls, saved, kicks, r.sum(s, "ours.tx_frames"), r.sum(s, "ours.fill_wakeups")))
	if calls == 0 {
		t.Error("the driver was never woken to send")
	}
	if guest.zeroCopy && calls > most*kicks {
		t.Errorf("%.0f calls for %.0f kicks, want %.0f each at most", calls, kicks, most)
	}
	if !guest.zeroCopy && saved > 0 {
		t.Errorf("%.0f kicks were saved: in copy mode nobody else sends", saved)
	}
}
