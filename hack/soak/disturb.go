package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// Names of disturbances, under which failures are counted and lines of the log are allowed.
const (
	workerKilled  = "worker killed"
	workerAborted = "worker aborted"
	workerSilent  = "worker silent"
	workerPaused  = "worker paused"
	backendCut    = "backend cut"
	backendsDown  = "backends down"
	reloaded      = "reload"
	refused       = "bad reload"
	listenerGone  = "listener gone"
	reopened      = "log reopened"
	captured      = "capture"
	traced        = "trace"
	linkDown      = "link down"
)

const (
	commandLimit = 30 * time.Second
	pauseBetween = 4 * time.Second // of disturbances, on average
)

// disturber makes the disturbances of a row. One goroutine has it.
type disturber struct {
	*leg
	random *rand.Rand
	spare  bool // worker 0 is to live on, so that its memory can be followed
}

// disturbing is kinds of disturbances, and how often each is made.
type disturbing []struct {
	weight int
	play   func(*disturber) error
}

// Two rows of disturbances are made at a time: those of workers, and all others.
var rows = []disturbing{
	{
		{3, func(d *disturber) error { return d.endWorker(workerKilled, syscall.SIGKILL) }},
		{2, func(d *disturber) error { return d.endWorker(workerAborted, syscall.SIGABRT) }},
		{2, func(d *disturber) error { return d.endWorker(workerSilent, syscall.SIGSTOP) }},
		{2, (*disturber).pauseWorker},
		{6, func(*disturber) error { return nil }},
	},
	{
		{3, (*disturber).cutBackend},
		{2, (*disturber).downBackends},
		{4, (*disturber).reload},
		{1, (*disturber).badReload},
		{3, (*disturber).removeListener},
		{3, (*disturber).reopen},
		{2, (*disturber).capture},
		{2, (*disturber).trace},
		{2, func(d *disturber) error { return d.flap(d.lab.Client, "c0") }},
		{2, func(d *disturber) error { return d.flap(d.lab.Backend, "b0") }},
	},
}

// disturb makes one disturbance of a row after the other for so long.
func (l *leg) disturb(ctx context.Context, row int, length time.Duration) {
	d := &disturber{leg: l, random: rand.New(rand.NewPCG(l.seed, uint64(row+1)<<32))}
	kinds, sum := rows[row], 0
	for _, k := range kinds {
		sum += k.weight
	}
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Duration(d.random.Int64N(int64(2 * pauseBetween)))):
		}
		d.spare = time.Since(began) > length/2
		n := d.random.IntN(sum)
		for _, k := range kinds {
			if n -= k.weight; n < 0 {
				if err := k.play(d); err != nil {
					l.note(err)
					return
				}
				break
			}
		}
	}
}

// between returns a duration at random.
func (d *disturber) between(a, b time.Duration) time.Duration {
	return a + time.Duration(d.random.Int64N(int64(b-a)))
}

// workers asks for the process of each worker; 0: it does not serve.
func (l *leg) workers() ([]int, error) {
	out, err := l.ringroad.Command(commandLimit, "status", "--json")
	if err != nil {
		return nil, fmt.Errorf("status: %w: %s", err, out)
	}
	var status struct {
		Workers []struct {
			PID   int
			State string
		}
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	pids := make([]int, len(status.Workers))
	for i, w := range status.Workers {
		if w.State == "serving" {
			pids[i] = w.PID
		}
	}
	return pids, nil
}

// victim chooses a worker. pid is 0 when all are to be spared.
func (d *disturber) victim() (index, pid int, err error) {
	pids, err := d.workers()
	if err != nil {
		return 0, 0, err
	}
	first := 0
	if d.spare {
		first = 1
	}
	if first >= len(pids) {
		return 0, 0, nil
	}
	index = first + d.random.IntN(len(pids)-first)
	return index, pids[index], nil
}

// endWorker sends a worker a signal that ends it, or has the watchdog end it, and waits until another serves in its place.
func (d *disturber) endWorker(name string, signal syscall.Signal) error {
	index, pid, err := d.victim()
	if err != nil || pid == 0 {
		return err
	}
	of := d.ledger.begin(&disturbance{name: name, worker: index})
	if err := syscall.Kill(pid, signal); err != nil {
		return fmt.Errorf("%s: signal %d: %w", name, pid, err)
	}
	for limit := time.Now().Add(commandLimit); ; time.Sleep(50 * time.Millisecond) {
		pids, err := d.workers()
		if err != nil {
			return err
		}
		if now := pids[index]; now != 0 && now != pid {
			break
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s: worker %d (pid %d) is not replaced within %v", name, index, pid, commandLimit)
		}
	}
	d.ledger.end(of)
	return nil
}

// pauseWorker stops a worker for less than the watchdog waits, which cuts nothing.
func (d *disturber) pauseWorker() error {
	_, pid, err := d.victim()
	if err != nil || pid == 0 {
		return err
	}
	of := d.ledger.begin(&disturbance{name: workerPaused, worker: -1})
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(d.between(100*time.Millisecond, 1500*time.Millisecond))
	defer d.ledger.end(of)
	return syscall.Kill(pid, syscall.SIGCONT)
}

// cutBackend ends one server of flaky, and starts it again after a while. The other one serves meanwhile.
func (d *disturber) cutBackend() error {
	i := d.random.IntN(len(flaky))
	of := d.ledger.begin(&disturbance{name: backendCut, worker: -1, door: doorFlaky})
	d.fell(i)
	d.ledger.end(of)
	time.Sleep(d.between(0, 5*time.Second))
	return d.raise(i)
}

// downBackends ends both servers of flaky for a while.
func (d *disturber) downBackends() error {
	of := d.ledger.begin(&disturbance{name: backendsDown, worker: -1, door: doorFlaky})
	for i := range flaky {
		d.fell(i)
	}
	time.Sleep(d.between(0, 3*time.Second))
	defer d.ledger.end(of)
	return errors.Join(d.raise(0), d.raise(1))
}

// command runs a command that all workers take part in. While one is silent it fails, and nothing is changed: then it is tried again.
func (d *disturber) command(name string, args ...string) error {
	began := time.Now()
	for {
		out, err := d.ringroad.Command(commandLimit, name, args...)
		if err == nil {
			return nil
		}
		err = fmt.Errorf("%s: %w: %s", name, err, out)
		if !strings.Contains(out, "did not answer within") || !d.ledger.lasted(workerSilent, began) || time.Since(began) > commandLimit {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// apply makes a configuration the one in use.
func (d *disturber) apply(configuration string) error {
	if err := d.ringroad.Configure(configuration); err != nil {
		return err
	}
	return d.command("reload")
}

// reload brings a new configuration, some times in a row, which cuts nothing.
func (d *disturber) reload() error {
	of := d.ledger.begin(&disturbance{name: reloaded, worker: -1})
	defer d.ledger.end(of)
	for range 1 + d.random.IntN(5) {
		if err := d.apply(d.configuration(true)); err != nil {
			return err
		}
	}
	return nil
}

// badReload brings a configuration with a mistake, which is to be refused.
func (d *disturber) badReload() error {
	of := d.ledger.begin(&disturbance{name: refused, worker: -1})
	defer d.ledger.end(of)
	good := d.configuration(true)
	if err := d.ringroad.Configure(good + "nonsense: 1\n"); err != nil {
		return err
	}
	if out, err := d.ringroad.Command(commandLimit, "reload"); err == nil || !strings.Contains(out, "nonsense") {
		return fmt.Errorf("a configuration with a mistake: %w: %s", err, out)
	}
	return d.apply(good)
}

// removeListener takes a listener and its upstream away for a while.
func (d *disturber) removeListener() error {
	of := d.ledger.begin(&disturbance{name: listenerGone, worker: -1, door: doorComing})
	defer d.ledger.end(of)
	if err := d.apply(d.configuration(false)); err != nil {
		return err
	}
	time.Sleep(d.between(0, 5*time.Second))
	return d.apply(d.configuration(true))
}

// reopen has the access log opened anew, as logrotate does, and checks the old one.
func (d *disturber) reopen() error {
	of := d.ledger.begin(&disturbance{name: reopened, worker: -1})
	defer d.ledger.end(of)
	old := d.access + ".1"
	if err := os.Rename(d.access, old); err != nil {
		return err
	}
	if err := d.ringroad.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	for limit := time.Now().Add(commandLimit); ; time.Sleep(50 * time.Millisecond) {
		// The workers begin to write to the new one some time after it is there.
		if info, err := os.Stat(d.access); err == nil && info.Size() > 0 {
			break
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s is not written to within %v of SIGUSR1", d.access, commandLimit)
		}
	}
	return checkLines(old)
}

func (d *disturber) capture() error {
	of := d.ledger.begin(&disturbance{name: captured, worker: -1})
	defer d.ledger.end(of)
	file := filepath.Join(d.lab.Dir, "soak.pcapng")
	length := d.between(100*time.Millisecond, 2*time.Second).String()
	if err := d.command("capture", "-w", file, "-s", "96", "-d", length, "tcp"); err != nil {
		return err
	}
	return os.Remove(file)
}

func (d *disturber) trace() error {
	of := d.ledger.begin(&disturbance{name: traced, worker: -1})
	defer d.ledger.end(of)
	length := d.between(100*time.Millisecond, 2*time.Second).String()
	return d.command("trace", "--next", "0", "--sample", "5", "--json", "-d", length)
}

// flap takes the link of a peer down for less than any timeout.
func (d *disturber) flap(n *lab.Namespace, name string) error {
	of := d.ledger.begin(&disturbance{name: linkDown, worker: -1})
	defer d.ledger.end(of)
	set := func(f func(netlink.Link) error) error {
		return n.Do(func() error {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			return f(link)
		})
	}
	// Without it the address of IPv6 would go with the link.
	if err := n.SetSysctls(map[string]string{"ipv6/conf/" + name + "/keep_addr_on_down": "1"}); err != nil {
		return err
	}
	if err := set(netlink.LinkSetDown); err != nil {
		return err
	}
	time.Sleep(d.between(10*time.Millisecond, 1500*time.Millisecond))
	return set(netlink.LinkSetUp)
}
