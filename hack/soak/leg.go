package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"ringroad/dataplane"
	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
	"ringroad/hack/lab/rss"
)

const (
	startLimit  = time.Minute
	restLimit   = 60 * time.Second // everything that waits has a timeout below
	warmUp      = 8 * time.Second
	lossShare   = 0.002
	sampleEvery = 10 * time.Second
	watchdog    = 4 * time.Second
	adminPlace  = "127.0.0.1:9901" // in the edge
)

// The doors: what clients connect to, of both families.
const (
	doorNginx  = 80 // nginx
	doorGo     = 81 // the Go server
	doorProxy  = 82 // the Go server, behind PROXY protocol
	doorFlaky  = 83 // two servers that come and go
	doorComing = 84 // the Go server; the listener comes and goes
	doorBreaks = 85 // the Go server, for what is answered before it was read, or cut off: the log tells it by the upstream
)

// flaky are the addresses of the servers behind doorFlaky.
var flaky = []string{"10.2.0.2:9001", "[fd00:2::2]:9002"}

// leg is one lab with one ringroad for so long.
type leg struct {
	plan
	seed     uint64
	clients  int
	duration time.Duration

	lab      *lab.Lab
	ringroad *lab.Ringroad
	ledger   *ledger
	table    *dataplane.RSS // nil: who serves a connection is not known
	admin    *http.Client
	servers  []*http.Server // of flaky; nil: down
	versions int            // of the configuration
	access   string         // the access log
	began    time.Time

	mu      sync.Mutex
	trouble []error
}

func (l *leg) run(binary string) (err error) {
	o := lab.Options{Queues: l.queues, Files: map[string]int64{"64k": 64 << 10, "2m": 2 << 20}}
	if l.rss {
		o.RSS = rss.DefaultKey
		l.table = dataplane.DefaultRSS(o.RSS, l.queues)
	}
	if l.loss {
		o.ClientFault = &faultlink.Options{Loss: lossShare, Seed: l.seed}
	}
	if l.lab, err = lab.Up(o); err != nil {
		return err
	}
	defer lab.CloseOnSignal(130, l.lab)()
	l.access = filepath.Join(l.lab.Dir, "access.log")
	l.admin = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return l.lab.Edge.Dial(ctx, network, address)
		},
	}}
	l.servers = make([]*http.Server, len(flaky))
	l.ledger = newLedger()
	err = l.play(binary)
	err = errors.Join(append([]error{err}, l.trouble...)...)
	l.lab.EndedBySignal()
	if err != nil {
		if kept, e := l.keep(); e != nil {
			err = errors.Join(err, e)
		} else {
			err = fmt.Errorf("%w\nlogs and configuration are kept in %s", err, kept)
		}
	}
	return errors.Join(err, l.lab.Close())
}

// play goes through the phases.
func (l *leg) play(binary string) (err error) {
	for i := range flaky {
		if err := l.raise(i); err != nil {
			return err
		}
		defer l.fell(i)
	}
	if l.ringroad, err = l.lab.StartRingroad(binary, l.configuration(true)); err != nil {
		return err
	}
	if err := l.ringroad.WaitReady(startLimit); err != nil {
		return err
	}
	l.began = time.Now()
	fresh, err := l.rest(nil)
	if err != nil {
		return fmt.Errorf("at first: %w", err)
	}
	for i := range fresh.goroutines[1:] {
		fresh.goroutines[1+i] += 2 // a worker's queue on each side has a sender from its first kick on
	}
	l.say("warms up")
	l.traffic(warmUp, nil)
	warm, err := l.rest(fresh)
	if err != nil {
		return fmt.Errorf("after the warm-up: %w", err)
	}
	l.say("plays; %v", warm)
	m := &memory{leg: l}
	l.traffic(l.duration, m)
	l.say("comes to rest")
	end, err := l.rest(warm)
	if err == nil {
		l.say("is at rest; %v", end)
		err = end.keepsNoMore(warm)
	}
	l.ledger.print(os.Stdout)
	l.note(err)
	l.note(m.judge())
	l.note(l.ledger.judge())
	l.note(l.checkAccess())
	l.note(l.end())
	return l.checkLog()
}

// note keeps what is wrong for the end.
func (l *leg) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		fmt.Printf("%7.1fs  %-8s WRONG: %v\n", time.Since(l.began).Seconds(), l.name, err)
		l.trouble = append(l.trouble, err)
	}
}

func (l *leg) say(format string, args ...any) {
	fmt.Printf("%7.1fs  %-8s %s\n", time.Since(l.began).Seconds(), l.name, fmt.Sprintf(format, args...))
}

// traffic lets all clients go on for so long, with disturbances when memory is followed.
func (l *leg) traffic(d time.Duration, m *memory) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	var clients, others sync.WaitGroup
	for i := range l.clients {
		v := &visitor{leg: l, random: rand.New(rand.NewPCG(l.seed, uint64(i)))}
		clients.Go(func() { v.visit(ctx) })
	}
	if m != nil {
		others.Go(func() { m.follow(ctx) })
		for row := range rows {
			others.Go(func() { l.disturb(ctx, row, d) })
		}
	}
	clients.Wait()
	others.Wait()
}

// end has ringroad quit, which is to leave nothing.
func (l *leg) end() error {
	pids, err := l.ringroad.Processes()
	if err != nil {
		return err
	}
	if out, err := l.ringroad.Command(startLimit, "quit"); err != nil {
		return fmt.Errorf("quit: %w: %s", err, out)
	}
	if err := l.ringroad.Wait(startLimit); err != nil {
		return fmt.Errorf("ringroad ended with %w", err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/ns", pid)); err == nil {
			return fmt.Errorf("process %d is left of ringroad's", pid)
		}
	}
	return nil
}

// goroutines is where those of the master are written to when something does not come to rest.
func (l *leg) goroutines() string { return filepath.Join(l.lab.Dir, "goroutines.txt") }

// heap is where the profile of a worker's heap is written to when it is at rest.
func (l *leg) heap(worker int) string {
	return filepath.Join(l.lab.Dir, fmt.Sprintf("heap-%d.pprof", worker))
}

// keep saves what tells how it went.
func (l *leg) keep() (string, error) {
	dir, err := os.MkdirTemp("", "ringroad-soak-"+l.name+"-")
	if err != nil || l.ringroad == nil {
		return dir, err
	}
	paths := []string{l.ringroad.LogFile, l.ringroad.ConfigFile, l.ringroad.StatsFile, l.access, l.goroutines()}
	for i := range l.queues {
		paths = append(paths, l.heap(i))
	}
	for _, path := range paths {
		b, e := os.ReadFile(path)
		if errors.Is(e, os.ErrNotExist) {
			continue
		}
		if e == nil {
			e = os.WriteFile(filepath.Join(dir, filepath.Base(path)), b, 0o644)
		}
		err = errors.Join(err, e)
	}
	f, e := os.Create(filepath.Join(dir, "ledger.txt"))
	if e == nil {
		l.ledger.print(f)
		l.ledger.history(f)
		e = f.Close()
	}
	return dir, errors.Join(err, e)
}

// configuration is a new version; coming says whether doorComing is there.
func (l *leg) configuration(coming bool) string {
	l.versions++
	c := fmt.Sprintf(`interfaces: [e0, e1]
rx_checksum: verify
admin: %s
pprof: on
watchdog: %v
listeners:
`, adminPlace, watchdog)
	listener := func(port int, upstream, more string) {
		for _, host := range []string{"10.1.0.1", "[fd00:1::1]"} {
			c += fmt.Sprintf("  - {address: %q, upstream: %s, response: {set: {X-Version: %q}}%s}\n", fmt.Sprintf("%s:%d", host, port), upstream,
				fmt.Sprint(l.versions), more)
		}
	}
	listener(doorNginx, "nginx", "")
	listener(doorGo, "go", ", upgrade: [echo]")
	listener(doorProxy, "go", ", proxy_protocol: on")
	listener(doorFlaky, "flaky", "")
	listener(doorBreaks, "breaks", "")
	comes := ""
	if coming {
		listener(doorComing, "coming", "")
		comes = `  coming: {servers: ["10.2.0.2:8081"], keepalive_timeout: 3s}` + "\n"
	}
	c += fmt.Sprintf(`upstreams:
  nginx: {servers: ["10.2.0.2:8080", "[fd00:2::2]:8080"], keepalive_timeout: 3s}
  go: {servers: ["10.2.0.2:8081", "[fd00:2::2]:8081"], keepalive_timeout: 3s}
  breaks: {servers: ["10.2.0.2:8081", "[fd00:2::2]:8081"], keepalive_timeout: 3s}
  flaky: {servers: [%q, %q], keepalive_timeout: 3s}
%stimeouts: {client_header: 10s, client_body: 20s, client_send: 20s, keepalive: %v, backend_read: 20s, backend_send: 20s, tunnel: 20s, drain: 3s}
limits: {keepalive_requests: %d}
tcp: {time_wait: 1s, fin_wait: 5s}
log: {access: %q, format: json}
`, flaky[0], flaky[1], comes, idleLimit, 50+l.versions%5, l.access)
	if l.rss {
		c += fmt.Sprintf("rss: {key: %q}\n", l.lab.Options().RSS)
	}
	return c
}

// raise starts a server of flaky.
func (l *leg) raise(i int) error {
	ln, err := l.lab.Backend.Listen("tcp", flaky[i])
	if err != nil {
		return err
	}
	s := &http.Server{Handler: backend.Handler(l.lab.Files)}
	l.servers[i] = s
	go s.Serve(ln) //nolint:errcheck // ends when it is closed
	return nil
}

// fell ends a server of flaky with all its connections.
func (l *leg) fell(i int) {
	if s := l.servers[i]; s != nil {
		s.Close()
		l.servers[i] = nil
	}
}

// ask reads a page of the admin endpoint.
func (l *leg) ask(path string) ([]byte, error) {
	r, err := l.admin.Get("http://" + adminPlace + path)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, r.Status, b)
	}
	return b, err
}
