package e2e

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// edgeLinks are the interfaces that ringroad is attached to.
var edgeLinks = []string{lab.EdgeClientLink, lab.EdgeBackendLink}

// TestIdleUsesNoCPU leaves ringroad alone for ten seconds with client and backend connections open.
func TestIdleUsesNoCPU(t *testing.T) {
	t.Parallel()
	w := upWide(t, lab.Options{Queues: 1})
	r := startIn(t, w.Lab, bothFamilies)
	mustServe(t, w.Lab)
	out, err := w.Client.Run(20*time.Second, "wrk", "-t1", "-c64", "-d1", "http://"+nginx4+"/")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkWrk(t, out)
	c := httpClient(t, w.Lab)
	get(t, c, "http://"+nginx4+"/") // stays open
	get(t, c, "http://"+nginx6+"/")
	const idle = 10 * time.Second
	time.Sleep(time.Second) // the connections of wrk are closed
	before, err := r.CPU()
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(idle)
	after, err := r.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if used := after - before; used >= idle/100 {
		t.Errorf("used %v of CPU in %v", used, idle)
	}
}

// TestMemoryStaysSmall looks at the memory that is taken up, UMEM included, at the end of a load.
func TestMemoryStaysSmall(t *testing.T) {
	r := start(t, bothFamilies)
	checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d3", "http://"+nginx4+"/"))
	if memory, err := r.Memory(); err != nil || memory >= 64*mib {
		t.Errorf("%.1f MiB with 64 connections, %v; want less than 64", float64(memory)/mib, err)
	}
}

// TestNoResidue ends ringroad in every way there is. The program and the link must be gone with it, and the next one must be able to
// start at once.
func TestNoResidue(t *testing.T) {
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		clean  bool
	}{
		{"SIGTERM", syscall.SIGTERM, true},
		{"SIGINT", syscall.SIGINT, true},
		{"SIGKILL", syscall.SIGKILL, false},
		{"panic", syscall.SIGABRT, false}, // the Go runtime ends as on a panic, with a trace back
	} {
		t.Run(c.name, func(t *testing.T) {
			r := start(t, bothFamilies)
			mustServe(t, shared)
			load, err := shared.Start("wrk", shared.Client.Exec("wrk", "-t1", "-c16", "-d20", "http://"+nginx4+"/"))
			if err != nil {
				t.Fatal(err)
			}
			defer load.Stop(time.Second)
			programs, links := attached(t)
			if len(programs) != len(edgeLinks) || len(links) != len(edgeLinks) {
				t.Fatalf("programs %v and links %v, want one for each of %v", programs, links, edgeLinks)
			}
			if err := r.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			err = r.Wait(stopLimit)
			if c.clean && err != nil {
				t.Errorf("ended with %v", err)
			}
			if c.name == "panic" {
				mustContain(t, r.Output(), "SIGABRT", "goroutine ")
			}
			wait(t, 5*time.Second, "no XDP program and no link left", func() (bool, string) { return gone(t, programs, links) })
			load.Stop(time.Second)

			start(t, bothFamilies)
			mustServe(t, shared)
		})
	}
}

// attached returns the ids of the XDP programs of the edge's interfaces and of the links that hold them.
func attached(t *testing.T) (programs []ebpf.ProgramID, links []link.ID) {
	t.Helper()
	return attachedIn(t, shared)
}

func attachedIn(t *testing.T, l *lab.Lab) (programs []ebpf.ProgramID, links []link.ID) {
	t.Helper()
	err := l.Edge.Do(func() error {
		for _, name := range edgeLinks {
			l, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if xdp := l.Attrs().Xdp; xdp != nil && xdp.Attached {
				programs = append(programs, ebpf.ProgramID(xdp.ProgId))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	it := new(link.Iterator)
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err == nil && info.Type == link.XDPType && slices.Contains(programs, info.Program) {
			links = append(links, info.ID)
		}
	}
	if err := it.Err(); err != nil {
		t.Fatal(err)
	}
	return programs, links
}

// gone reports whether nothing is attached in the edge and the given programs and links exist no more.
func gone(t *testing.T, programs []ebpf.ProgramID, links []link.ID) (bool, string) {
	t.Helper()
	return goneFrom(t, shared, programs, links)
}

func goneFrom(t *testing.T, l *lab.Lab, programs []ebpf.ProgramID, links []link.ID) (bool, string) {
	t.Helper()
	var left []string
	if now, _ := attachedIn(t, l); len(now) > 0 {
		left = append(left, fmt.Sprintf("attached programs %v", now))
	}
	for _, id := range programs {
		p, err := ebpf.NewProgramFromID(id)
		if !errors.Is(err, os.ErrNotExist) {
			left = append(left, fmt.Sprintf("program %d (%v)", id, err))
		}
		p.Close()
	}
	for _, id := range links {
		l, err := link.NewFromID(id)
		if !errors.Is(err, os.ErrNotExist) {
			left = append(left, fmt.Sprintf("link %d (%v)", id, err))
		}
		if err == nil {
			l.Close()
		}
	}
	return len(left) == 0, strings.Join(left, ", ")
}

// shortMemory keeps neither idle backend connections nor closed ones for long.
var shortMemory = strings.NewReplacer("]}", "], keepalive_timeout: 1s}", "log:", "tcp: {time_wait: 1s}\nlog:").Replace(bothFamilies)

// TestNothingLeaks compares connections, frames, goroutines and memory before a load with those after it, when all is closed again.
func TestNothingLeaks(t *testing.T) {
	r := start(t, shortMemory)
	families(t, func(t *testing.T, nginx, _ string) {
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c1", "-d1", "http://"+nginx+"/")) // the first kick of a queue starts its sender
	})
	wait(t, 30*time.Second, "the first connections gone", func() (bool, string) {
		return stats(t, r)["stack.established"] == 0, "some are established"
	})
	fresh := stats(t, r)
	const connections = 5000 // of a load, by each family
	load := func() {
		families(t, func(t *testing.T, nginx, goServer string) {
			checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d1", "http://"+nginx+"/"))
			mustMatch(t, inClient(t, 20*time.Second, "ab", "-q", "-n", fmt.Sprint(connections), "-c", "64", "http://"+nginx+"/"), `Failed requests:\s+0\n`)
			checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c8", "-d1", "http://"+goServer+"/bytes/1000000?chunked"))
			// Clients that go away in the middle of a body.
			inClient(t, 20*time.Second, "wrk", "-t1", "-c8", "-d1", "http://"+goServer+"/bytes/100000000")
		})
	}
	load() // buffers and tables that grow at the first use stay
	warm := stats(t, r)
	// Garbage that has not been collected yet is memory too. Of so many connections none may keep a few KiB.
	const heapMargin = 32 * mib
	load()
	if made := stats(t, r)["proxy.clients_accepted"] - warm["proxy.clients_accepted"]; made < 2*connections {
		t.Errorf("only %.0f connections made", made)
	}
	wait(t, 30*time.Second, "everything back", func() (bool, string) {
		now := stats(t, r)
		frames, ok := framesAccounted(now)
		state := []string{frames}
		for _, gauge := range []string{"proxy.clients_active", "proxy.backends_active", "proxy.exchanges_active", "proxy.buffers_in_use",
			"stack.endpoints", "stack.established", "process.goroutines"} {
			ok = ok && now[gauge] <= fresh[gauge]
			state = append(state, fmt.Sprintf("%s %.0f, at first %.0f", gauge, now[gauge], fresh[gauge]))
		}
		heap := now["process.heap_bytes"] - warm["process.heap_bytes"]
		ok = ok && heap <= heapMargin
		return ok, fmt.Sprintf("%s; heap %+.1f MiB", strings.Join(state, "; "), heap/mib)
	})
}

// framesAccounted checks the frame accounting of every queue: each frame is in exactly one place, and at rest none is on its way.
func framesAccounted(s lab.Stats) (string, bool) {
	var states []string
	all := true
	for path, total := range s {
		queue, ok := strings.CutSuffix(path, ".levels.frames")
		if !ok {
			continue
		}
		free, fill := s[queue+".levels.free"], s[queue+".levels.fill"]
		states = append(states, fmt.Sprintf("%s: %.0f free + %.0f fill of %.0f", queue, free, fill, total))
		all = all && free+fill == total
	}
	slices.Sort(states)
	return strings.Join(states, "; "), all && len(states) == len(edgeLinks)
}

func stats(t *testing.T, r *lab.Ringroad) lab.Stats {
	t.Helper()
	s, err := r.Stats()
	if err != nil {
		t.Fatal(err)
	}
	return s
}
