package e2e

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

// wide is a lab of several queues, and how ringroad runs in it.
type wide struct {
	*lab.Lab
	workers int
}

// upWide makes a lab for the time of one test, with a worker a queue.
func upWide(t *testing.T, o lab.Options) *wide {
	t.Helper()
	o.Files = map[string]int64{"1m": mib}
	l, err := lab.Up(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return &wide{l, o.Queues}
}

// configuration adds what belongs to the lab, and further lines of YAML.
func (w *wide) configuration(base string, more ...string) string {
	if key := w.Options().RSS; key != nil {
		base += fmt.Sprintf("rss: {key: %q}\n", key)
	}
	return base + strings.Join(append(more, ""), "\n")
}

// dialWorker connects to a listener so that a certain worker serves the connection.
func (w *wide) dialWorker(worker int, listener string, limit time.Duration) (net.Conn, error) {
	return w.DialWorker(worker, w.workers, listener, limit)
}

// spread are labs of several queues. With RSS emulated every reply comes in where it belongs; without it about half of them, of two
// workers, have to be handed over.
var spread = []struct {
	name    string
	queues  int
	workers int
	rss     rss.Key
}{
	{"2 queues", 2, 2, nil},
	{"2 queues, RSS", 2, 2, rss.DefaultKey},
	{"4 queues", 4, 4, nil},
	{"4 queues, RSS", 4, 4, rss.DefaultKey},
	{"4 queues, 2 workers", 4, 2, nil},
	{"4 queues, 2 workers, RSS", 4, 2, rss.DefaultKey},
}

// TestWorkersShareTheLoad counts every request at the client and at the workers.
func TestWorkersShareTheLoad(t *testing.T) {
	const connections = 256
	for _, c := range spread {
		t.Run(c.name, func(t *testing.T) {
			w := upWide(t, lab.Options{Queues: c.queues, RSS: c.rss})
			w.workers = c.workers
			r := startIn(t, w.Lab, w.configuration(bothFamilies, fmt.Sprintf("workers: %d", c.workers)))
			families(t, func(t *testing.T, nginx, _ string) {
				requests := 10000
				if c.queues == c.workers && nginx == nginx4 {
					requests = 50000
				}
				before := stats(t, r)
				out, err := w.Client.Run(3*time.Minute, "h2load", "--h1", "-n", fmt.Sprint(requests), "-c", fmt.Sprint(connections), "-t", "1",
					"--connect-to="+nginx, "http://example.org/")
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				mustMatch(t, out, fmt.Sprintf(`requests: %[1]d total, %[1]d started, %[1]d done, %[1]d succeeded, 0 failed, 0 errored, 0 timeout`, requests),
					fmt.Sprintf(`status codes: %d 2xx, 0 3xx, 0 4xx, 0 5xx`, requests))
				moved := movedBy(t, r, before, "all requests are counted", func(moved lab.Stats) bool { return moved["proxy.requests"] >= float64(requests) })
				if moved["proxy.requests"] != float64(requests) {
					t.Errorf("the workers together counted %.0f requests", moved["proxy.requests"])
				}
				w.mustShare(t, moved, "proxy.clients_accepted")
				w.mustShare(t, moved, "proxy.requests")
				w.mustHandOver(t, r, before)
			})
			wait(t, 10*time.Second, "every frame is back", func() (bool, string) { return framesHome(stats(t, r), len(edgeLinks)*c.queues) })
		})
	}
}

// TestPortsBringRepliesHome makes a backend connection for every request: each needs a port of its own whose replies come home. There
// are enough of them for so many: a port is used again when its last connection is forgotten.
func TestPortsBringRepliesHome(t *testing.T) {
	for _, c := range spread {
		if c.rss == nil {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			w := upWide(t, lab.Options{Queues: c.queues, RSS: c.rss})
			w.workers = c.workers
			base := strings.ReplaceAll(bothFamilies, `8080"]}`, `8080"], keepalive: 0}`)
			r := startIn(t, w.Lab, w.configuration(base, fmt.Sprintf("workers: %d", c.workers)))
			families(t, func(t *testing.T, nginx, _ string) {
				before := stats(t, r)
				out, err := w.Client.Run(20*time.Second, "h2load", "--h1", "-n", "1500", "-c", "64", "-t", "1", "--connect-to="+nginx, "http://example.org/")
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				mustMatch(t, out, `1500 succeeded, 0 failed`)
				w.mustShare(t, stats(t, r).Moved(before), "proxy.backend_connects")
				w.mustHandOver(t, r, before)
			})
		})
	}
}

// TestBodiesArriveIntactThroughSeveralWorkers moves bodies over wires that lose frames: what is sent again comes in on the same queues.
func TestBodiesArriveIntactThroughSeveralWorkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rss  rss.Key
		loss float64
	}{
		{"handed over", nil, 0},
		{"handed over, lossy", nil, 0.01},
		{"RSS, lossy", rss.DefaultKey, 0.01},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := lab.Options{Queues: 2, RSS: c.rss}
			if c.loss > 0 {
				o.ClientFault, o.BackendFault = &faultlink.Options{Loss: c.loss, Seed: 5}, &faultlink.Options{Loss: c.loss, Seed: 6}
			}
			w := upWide(t, o)
			// So many connections to backends that some come in on the wrong queue.
			r := startIn(t, w.Lab, w.configuration(strings.ReplaceAll(bothFamilies, `8081"]}`, `8081"], keepalive: 0}`)))
			before := stats(t, r)
			families(t, func(t *testing.T, _, goServer string) {
				for range 3 { // connections of their own each, so that no worker is left out
					moveBodies(t, httpClient(t, w.Lab), "http://"+goServer, mib, 4)
				}
			})
			w.mustHandOver(t, r, before)
			if c.loss > 0 && stats(t, r).Moved(before)["stack.retransmits"] == 0 {
				t.Error("nothing had to be sent again: the wires lost nothing")
			}
		})
	}
}

// TestMoreWorkersThanQueuesAreRefused would leave workers without anything to receive.
func TestMoreWorkersThanQueuesAreRefused(t *testing.T) {
	w := upWide(t, lab.Options{Queues: 2})
	r, err := w.StartRingroad(binary, w.configuration(bothFamilies, "workers: 3"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(startLimit); err == nil {
		t.Error("ended without an error")
	}
	mustContain(t, r.Output(), "workers", "queues")
}

// mustShare checks that every worker has at least a third of its fair share of what a counter counted.
func (w *wide) mustShare(t *testing.T, moved lab.Stats, counter string) {
	t.Helper()
	shares, total := make([]float64, w.workers), 0.0
	for i := range shares {
		shares[i] = moved[fmt.Sprintf("workers.%d.%s", i, counter)]
		total += shares[i]
	}
	if total != moved[counter] {
		t.Errorf("%s: %.0f, of the workers %v", counter, moved[counter], shares)
	}
	if slices.Min(shares) < total/float64(3*w.workers) {
		t.Errorf("%s of the workers: %v, want about the same of each", counter, shares)
	}
}

// mustHandOver checks that since a reading no frame was handed over with emulated RSS, and that without it some were, each of which
// arrived.
func (w *wide) mustHandOver(t *testing.T, r *lab.Ringroad, before lab.Stats) {
	t.Helper()
	moved := movedBy(t, r, before, "every frame handed over is received", func(moved lab.Stats) bool {
		return handover(moved, "sent") == handover(moved, "received")
	})
	if sent := handover(moved, "sent"); (sent != 0) != (w.Options().RSS == nil) {
		t.Errorf("%.0f frames handed over; statistics: %v", sent, handoverOf(moved))
	}
}

// movedBy returns what moved since a reading once a condition holds. The workers publish their counters a moment late.
func movedBy(t *testing.T, r *lab.Ringroad, before lab.Stats, what string, condition func(lab.Stats) bool) (moved lab.Stats) {
	t.Helper()
	wait(t, 10*time.Second, what, func() (bool, string) {
		moved = stats(t, r).Moved(before)
		return condition(moved), fmt.Sprint(moved)
	})
	return moved
}

// handover returns a counter of the handover, summed over the workers.
func handover(s lab.Stats, counter string) float64 { return s["handover."+counter] }

// handoverOf returns the numbers of the handover, those of single workers left out.
func handoverOf(s lab.Stats) lab.Stats {
	only := maps.Clone(s)
	maps.DeleteFunc(only, func(path string, _ float64) bool { return !strings.HasPrefix(path, "handover.") })
	return only
}

// framesHome checks that on every queue each frame is either free or with the kernel, to receive into.
func framesHome(s lab.Stats, queues int) (bool, string) {
	var away []string
	found := 0
	for path, frames := range s {
		queue, ok := strings.CutSuffix(path, ".levels.frames")
		if !ok || !strings.HasPrefix(path, "interfaces.") {
			continue
		}
		found++
		if free, fill := s[queue+".levels.free"], s[queue+".levels.fill"]; free+fill != frames {
			away = append(away, fmt.Sprintf("%s: %.0f free + %.0f fill of %.0f", queue, free, fill, frames))
		}
	}
	slices.Sort(away)
	return found == queues && len(away) == 0, fmt.Sprintf("%d queues of %d; %s", found, queues, strings.Join(away, "; "))
}
