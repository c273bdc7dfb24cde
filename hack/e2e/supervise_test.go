package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/rss"
)

// startPair runs two workers in a lab that says which of them serves a connection.
func startPair(t *testing.T, more ...string) (*wide, *lab.Ringroad) {
	t.Helper()
	w := upWide(t, lab.Options{Queues: 2, RSS: rss.DefaultKey})
	return w, startIn(t, w.Lab, w.configuration(bothFamilies, append(more, "limits: {keepalive_requests: 0}")...))
}

// workerPID returns the id of a worker's process.
func workerPID(t *testing.T, r *lab.Ringroad, worker int) int {
	t.Helper()
	path := fmt.Sprintf("workers.%d.pid", worker)
	pid := int(stats(t, r)[path])
	if pid <= 1 {
		t.Fatalf("statistics have no %s", path)
	}
	return pid
}

// replaced waits until a worker is another process than it was.
func replaced(t *testing.T, r *lab.Ringroad, worker, pid int, limit time.Duration) {
	t.Helper()
	wait(t, limit, fmt.Sprintf("worker %d is replaced", worker), func() (bool, string) {
		now := int(stats(t, r)[fmt.Sprintf("workers.%d.pid", worker)])
		return now > 1 && now != pid, fmt.Sprintf("pid %d, was %d", now, pid)
	})
}

// conversations are connections of one worker, each of which asks again and again until it is told to stop.
type conversations struct {
	stop   chan struct{}
	group  sync.WaitGroup
	mu     sync.Mutex
	asked  int
	failed []error
}

func (w *wide) converse(t *testing.T, worker, connections int) *conversations {
	t.Helper()
	c := &conversations{stop: make(chan struct{})}
	for i := range connections {
		conn, err := w.dialWorker(worker, []string{nginx4, nginx6}[i%2], 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		c.group.Go(func() {
			defer conn.Close()
			for err := error(nil); err == nil; {
				select {
				case <-c.stop:
					return
				default:
				}
				err = exchange(conn, 1)
				c.mu.Lock()
				c.asked++
				if err != nil {
					c.failed = append(c.failed, err)
				}
				c.mu.Unlock()
			}
		})
	}
	return c
}

// progress waits until every connection has had the time for some more answers.
func (c *conversations) progress(t *testing.T) {
	t.Helper()
	count := func() int { c.mu.Lock(); defer c.mu.Unlock(); return c.asked }
	from := count()
	wait(t, 20*time.Second, "requests are answered", func() (bool, string) {
		now := count()
		return now >= from+200, fmt.Sprintf("%d", now-from)
	})
}

// end returns the errors of all connections.
func (c *conversations) end() []error {
	close(c.stop)
	c.group.Wait()
	return c.failed
}

// TestWorkerThatDiesLosesOnlyItsOwnConnections ends one worker, then the other, as on a panic, under load on both.
func TestWorkerThatDiesLosesOnlyItsOwnConnections(t *testing.T) {
	w, r := startPair(t)
	programs, links := attachedIn(t, w.Lab)
	var outages []time.Duration
	for _, victim := range []int{1, 0} {
		lost, kept := w.converse(t, victim, 8), w.converse(t, 1-victim, 16)
		kept.progress(t)
		pid := workerPID(t, r, victim)
		if err := syscall.Kill(pid, syscall.SIGABRT); err != nil { // the Go runtime ends with a trace back
			t.Fatal(err)
		}
		outages = append(outages, w.outage(t, victim))
		kept.progress(t)
		if errs := kept.end(); len(errs) > 0 {
			t.Errorf("worker %d died, and of worker %d's connections %d failed, such as: %v", victim, 1-victim, len(errs), errs[0])
		}
		if errs := lost.end(); len(errs) == 0 {
			t.Errorf("no connection of worker %d failed: it has not served them", victim)
		}
		replaced(t, r, victim, pid, 10*time.Second)
	}
	// The machine may be busy with other things during one of them.
	if slices.Min(outages) > time.Second {
		t.Errorf("queues served again after %v, want at most a second", outages)
	}
	t.Logf("queues served again after %v", outages)
	mustContain(t, r.Output(), "SIGABRT", "goroutine ")
	if p, l := attachedIn(t, w.Lab); !slices.Equal(p, programs) || !slices.Equal(l, links) {
		t.Errorf("programs %v and links %v, before %v and %v", p, l, programs, links)
	}
	wait(t, 20*time.Second, "every frame is back", func() (bool, string) { return framesHome(stats(t, r), len(edgeLinks)*2) })
}

// outage tries until a new connection to a worker is served, and returns how long that took. Each attempt is a new connection: a SYN
// that was dropped would be sent again only after a second.
func (w *wide) outage(t *testing.T, worker int) time.Duration {
	t.Helper()
	since := time.Now()
	for {
		c, err := w.dialWorker(worker, nginx4, 50*time.Millisecond)
		if err == nil {
			err = exchange(c, 1)
			c.Close()
		}
		if err == nil {
			return time.Since(since)
		}
		if time.Since(since) > 20*time.Second {
			t.Fatalf("worker %d does not serve again: %v", worker, err)
		}
	}
}

// TestMasterThatDiesLeavesTheHostAsItWas kills the master under load. A server of the edge's kernel waits on ringroad's own port.
func TestMasterThatDiesLeavesTheHostAsItWas(t *testing.T) {
	w, r := startPair(t)
	ln, err := w.Edge.Listen("tcp", nginx4)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoConnections(ln)
	for worker := range 2 {
		load := w.converse(t, worker, 8)
		defer load.end()
		load.progress(t) // it is ringroad that answers
	}
	programs, links := attachedIn(t, w.Lab)
	pids, err := r.Processes()
	if err != nil {
		t.Fatal(err)
	}
	if len(pids) != 3 {
		t.Errorf("processes %v, want a master and two workers", pids)
	}
	if err := r.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait(t, 5*time.Second, "no process left", func() (bool, string) {
		alive := slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !running(pid) })
		return len(alive) == 0, fmt.Sprint(alive)
	})
	wait(t, 5*time.Second, "no XDP program and no link left", func() (bool, string) { return goneFrom(t, w.Lab, programs, links) })
	if err := kernelEchoFrom(w.Lab, nginx4); err != nil {
		t.Errorf("the kernel's server on ringroad's port: %v", err)
	}
}

// running reports whether a process is there and has not ended.
func running(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	return err == nil && !strings.Contains(string(b), "\nState:\tZ") && !strings.Contains(string(b), "\nState:\tX")
}

// TestWatchdogReplacesASilentWorker stops a worker as a loop that never ends would. Several times, to see that nothing piles up.
func TestWatchdogReplacesASilentWorker(t *testing.T) {
	w, r := startPair(t, "watchdog: 1s")
	var memory []int64
	for round := range 4 {
		load := w.converse(t, 0, 16)
		load.progress(t)
		pid := workerPID(t, r, 1)
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		replaced(t, r, 1, pid, time.Minute)
		w.outage(t, 1)
		load.progress(t)
		if errs := load.end(); len(errs) > 0 {
			t.Errorf("round %d: connections of the other worker failed: %v", round, errs[0])
		}
		if running(pid) {
			t.Errorf("round %d: the stopped worker (pid %d) is still there", round, pid)
		}
		bytes, err := lab.AnonymousPSS(r.PID())
		if err != nil {
			t.Fatal(err)
		}
		memory = append(memory, bytes)
	}
	mustContain(t, r.Output(), "watchdog")
	// What the first round needed may stay.
	if grown := memory[len(memory)-1] - memory[0]; grown > 4*mib {
		t.Errorf("the master's memory: %v", memory)
	}
}

// TestWorkersHaveNoPrivileges reads what the kernel says of every thread of the workers, and what they have open.
func TestWorkersHaveNoPrivileges(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	w := upWide(t, lab.Options{Queues: 2, RSS: rss.DefaultKey})
	r := startIn(t, w.Lab, w.configuration(strings.Replace(bothFamilies, "access: off", "access: "+log, 1)))
	w.outage(t, 0)
	w.outage(t, 1)
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	all := func(id string) string { return strings.Repeat(id+"\t", 3) + id }
	want := map[string]string{
		"CapInh": strings.Repeat("0", 16), "CapPrm": strings.Repeat("0", 16), "CapEff": strings.Repeat("0", 16), "CapAmb": strings.Repeat("0", 16),
		"NoNewPrivs": "1", "Seccomp": "2", "Uid": all(nobody.Uid), "Gid": all(nobody.Gid),
	}
	for worker := range 2 {
		pid := workerPID(t, r, worker)
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		if err != nil || len(threads) == 0 {
			t.Fatalf("worker %d has threads %v, %v", worker, threads, err)
		}
		for _, path := range threads {
			status := readStatus(t, path)
			for name, value := range want {
				if status != nil && status[name] != value {
					t.Errorf("worker %d, %s: %s is %q, want %q", worker, path, name, status[name], value)
				}
			}
		}
		for _, file := range writableFiles(t, pid) {
			if file != log {
				t.Errorf("worker %d may write to %s", worker, file)
			}
		}
	}
	if pid := r.PID(); readStatus(t, fmt.Sprintf("/proc/%d/status", pid))["Uid"] != all("0") {
		t.Error("the master does not run as root")
	}
}

func readStatus(t *testing.T, path string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil // the thread has ended
	}
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		status[name] = strings.TrimSpace(value)
	}
	return status
}

// writableFiles returns the files of the file system, devices and memory left out, that a process has open for writing.
func writableFiles(t *testing.T, pid int) (files []string) {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range links {
		file, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(file, "/") || strings.HasPrefix(file, "/dev/") || strings.HasPrefix(file, "/memfd:") {
			continue // sockets, pipes and the like have no path
		}
		b, err := os.ReadFile(strings.Replace(path, "/fd/", "/fdinfo/", 1))
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(string(b), "flags:\t")
		flags, err := strconv.ParseInt(strings.Fields(text)[0], 8, 64)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if flags&syscall.O_ACCMODE != syscall.O_RDONLY {
			files = append(files, file)
		}
	}
	return files
}

// TestQuitUnderLoadLosesNothingInFlight drains by command while both workers have exchanges in the middle of their bodies, beside a load
// on all of them.
func TestQuitUnderLoadLosesNothingInFlight(t *testing.T) {
	w, r := startPair(t, "timeouts: {drain: 20s}")
	load, err := w.Start("wrk", w.Client.Exec("wrk", "-t1", "-c32", "-d60", "http://"+nginx4+"/"))
	if err != nil {
		t.Fatal(err)
	}
	defer load.Stop(time.Second)
	var answers []*bufio.Reader
	for i := range 16 {
		c, err := w.dialWorker(i%2, go4, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /slow?body=2s HTTP/1.1\r\nHost: example.org\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		in := bufio.NewReader(c)
		if _, err := in.Peek(1); err != nil { // the first half is there
			t.Fatal(err)
		}
		answers = append(answers, in)
	}
	if out, err := r.Command(stopLimit, "quit", "--timeout", "0s"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := r.WaitLine("draining", stopLimit); err != nil {
		t.Fatal(err)
	}
	for worker := range 2 {
		wait(t, stopLimit, fmt.Sprintf("worker %d refuses connections", worker), func() (bool, string) {
			c, err := w.dialWorker(worker, nginx4, time.Second)
			if err == nil {
				c.Close()
			}
			return errors.Is(err, syscall.ECONNREFUSED), fmt.Sprint(err)
		})
	}
	for i, in := range answers {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("response %d: %v", i, err)
			continue
		}
		if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "first half, second half\n" {
			t.Errorf("response %d: %q, %v", i, body, err)
		}
		resp.Body.Close()
	}
	if err := r.Wait(20 * time.Second); err != nil {
		t.Errorf("ended with %v", err)
	}
}

// TestStopByCommandEndsAtOnce does not wait for what is in flight.
func TestStopByCommandEndsAtOnce(t *testing.T) {
	w, r := startPair(t)
	load := w.converse(t, 0, 4)
	load.progress(t)
	if out, err := r.Command(stopLimit, "status"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	programs, links := attachedIn(t, w.Lab)
	if out, err := r.Command(stopLimit, "stop"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if err := r.Wait(stopLimit); err != nil {
		t.Errorf("ended with %v", err)
	}
	load.end()
	wait(t, 5*time.Second, "no XDP program and no link left", func() (bool, string) { return goneFrom(t, w.Lab, programs, links) })
	if out, err := r.Command(stopLimit, "status"); err == nil {
		t.Errorf("there is still somebody who answers: %s", out)
	}
}

// TestDrainedWorkersGiveTheirTrafficToTheKernel hands the port over to a server of the edge's kernel and takes it back.
func TestDrainedWorkersGiveTheirTrafficToTheKernel(t *testing.T) {
	w, r := startPair(t)
	ln, err := w.Edge.Listen("tcp", nginx4)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoConnections(ln)
	for round := range 2 {
		mustServe(t, w.Lab)
		if err := kernelEchoFrom(w.Lab, nginx4); err == nil {
			t.Errorf("round %d: the kernel's server is reached beside ringroad", round)
		}
		if err := r.Signal(syscall.SIGWINCH); err != nil {
			t.Fatal(err)
		}
		wait(t, 20*time.Second, "no worker left", func() (bool, string) {
			pids, err := r.Processes()
			return err == nil && len(pids) == 1, fmt.Sprint(pids, err)
		})
		wait(t, 5*time.Second, "the kernel's server is reached", func() (bool, string) {
			err := kernelEchoFrom(w.Lab, nginx4)
			return err == nil, fmt.Sprint(err)
		})
		if out, err := r.Command(stopLimit, "reload"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		wait(t, startLimit, "both workers serve again", func() (bool, string) {
			out, err := r.Command(stopLimit, "status", "--json")
			return err == nil && strings.Count(out, `"serving"`) == 2, out
		})
	}
	mustServe(t, w.Lab)
}
