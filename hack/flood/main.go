// Command flood compares ringroad with nginx on the kernel under floods: what connections that are open get done, whether new ones
// succeed, and what memory it takes. It runs in a lab of its own; every flood is bounded in frames and seconds.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

const address = "10.1.0.1:80"

const nginxConfig = `	upstream backend { server 10.2.0.2:8080; keepalive 256; keepalive_requests 100000000; }
	server {
		listen 10.1.0.1:80 backlog=4096;
		location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
`

const ringroadConfig = `interfaces: [e0, e1]
rx_checksum: verify
admin: off
listeners: [{address: "10.1.0.1:80", upstream: nginx}]
upstreams: {nginx: {servers: ["10.2.0.2:8080"]}}
limits: {keepalive_requests: 0}
`

type options struct {
	seconds time.Duration
	kinds   []flood.Kind
	binary  string
	filter  string
	only    string
	gro     bool
}

func main() {
	lab.Child()
	var o options
	var kinds string
	flag.DurationVar(&o.seconds, "d", 3*time.Second, "how long each flood lasts")
	flag.StringVar(&kinds, "kinds", "syn,ack,rst,fragment,icmp", "floods")
	flag.BoolVar(&o.gro, "gro", false, "the client's link has GRO on, for all: 'filter: {syn_cookies: xdp}' needs it in native mode")
	flag.StringVar(&o.filter, "filter", "", "more of ringroad's configuration, such as 'filter: {packet_rate: 1000}'")
	flag.StringVar(&o.only, "only", "", "nginx or ringroad")
	flag.StringVar(&o.binary, "ringroad", "", "binary of ringroad; built without")
	flag.Parse()
	for k := range strings.SplitSeq(kinds, ",") {
		o.kinds = append(o.kinds, flood.Kind(k))
	}
	if err := run(&o); err != nil {
		fmt.Fprintln(os.Stderr, "flood:", err)
		os.Exit(1)
	}
}

func run(o *options) error {
	l, err := lab.Up(lab.Options{})
	if err != nil {
		return err
	}
	defer l.Close() //nolint:errcheck // it reports itself
	lab.CloseOnSignal(130, l)
	if o.binary == "" {
		if o.binary, err = lab.BuildRingroad(l.Dir); err != nil {
			return err
		}
	}
	if o.gro {
		if _, err := l.Client.Run(5*time.Second, "ethtool", "-K", "c0", "gro", "on"); err != nil {
			return err
		}
	}
	// Answers to made-up sources go to the client, whose kernel drops them.
	if _, err := l.Edge.Run(5*time.Second, "ip", "route", "add", flood.Sources.String(), "via", lab.Client4.String()); err != nil {
		return err
	}
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "flood\tproxy\tframes/s\trequests/s before\tunder it\tkept\tnew connections\tMB before\tafter")
	for _, kind := range o.kinds {
		highest := map[string]int{}
		for _, row := range []struct {
			name  string
			share int // of what reaches nginx at most; 0: as fast as it is sent
		}{{"nginx", 0}, {"ringroad", 0}, {"ringroad", 1}, {"nginx", 10}, {"ringroad", 10}} {
			rate := 0
			if row.share > 0 {
				of := highest["nginx"]
				if of == 0 {
					of = highest["ringroad"]
				}
				rate = max(of/row.share, 1)
			}
			if o.only != "" && o.only != row.name || row.share == 1 && highest["nginx"] == 0 {
				continue
			}
			m, err := measure(l, o, row.name, kind, rate)
			if err != nil {
				return fmt.Errorf("%s under %s: %w", row.name, kind, err)
			}
			if row.share == 0 {
				highest[row.name] = m.rate
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%.0f\t%.0f\t%.0f%%\t%d of %d\t%.0f\t%.0f\n", kind, row.name, m.rate, m.before, m.under,
				100*m.under/m.before, m.opened, m.tried, m.memoryBefore, m.memoryAfter)
		}
	}
	t.Flush()
	return nil
}

// measured is one row.
type measured struct {
	rate                      int // frames a second
	before, under             float64
	opened, tried             int
	memoryBefore, memoryAfter float64 // MB
}

func measure(l *lab.Lab, o *options, name string, kind flood.Kind, rate int) (m measured, err error) {
	var p *lab.Process
	if name == "nginx" {
		p, err = l.StartNginx(l.Edge, "edge", 1, nginxConfig, nil)
	} else {
		var r *lab.Ringroad
		if r, err = l.StartRingroad(o.binary, ringroadConfig+o.filter); err == nil {
			p, err = r.Process, r.WaitReady(10*time.Second)
		}
	}
	if err != nil {
		return m, err
	}
	defer p.Stop(5 * time.Second)
	if err := l.Client.WaitTCP(address, 10*time.Second); err != nil {
		return m, err
	}
	load, err := startLoad(l, 16)
	if err != nil {
		return m, err
	}
	defer load.stop()
	m.before = load.rate(o.seconds)
	m.memoryBefore, err = megabytes(p)
	if err != nil {
		return m, err
	}
	mac, err := flood.Gateway(l.Edge, lab.EdgeClientLink)
	if err != nil {
		return m, err
	}
	stop, done := make(chan struct{}), make(chan error)
	var sent atomic.Int64
	go func() {
		n, err := flood.Send(l.Client, "c0", mac, flood.Options{
			Kind: kind, To: netip.MustParseAddrPort(address), Frames: 20_000_000, For: 2 * o.seconds, Rate: rate,
		}, stop)
		sent.Store(int64(n))
		done <- err
	}()
	start := time.Now()
	opened := make(chan int)
	const tries = 10
	go func() { opened <- open(l, tries) }()
	m.under = load.rate(o.seconds)
	m.memoryAfter, err = megabytes(p)
	m.opened, m.tried = <-opened, tries
	close(stop)
	took := time.Since(start)
	if e := <-done; err == nil {
		err = e
	}
	m.rate = int(float64(sent.Load()) / min(took, 2*o.seconds).Seconds())
	return m, err
}

func megabytes(p *lab.Process) (float64, error) {
	b, err := p.Memory()
	return float64(b) / 1e6, err
}

// open tries to get answers on new connections, one after the other, each within the time of one SYN that is sent again.
func open(l *lab.Lab, tries int) (opened int) {
	for range tries {
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		if c, err := l.Client.Dial(ctx, "tcp", address); err == nil {
			_ = c.SetDeadline(time.Now().Add(1500 * time.Millisecond))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			if r, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil && r.StatusCode == http.StatusOK {
				opened++
			}
			c.Close()
		}
		cancel()
	}
	return opened
}

// load is requests on open connections, one after the other on each.
type load struct {
	done   chan struct{}
	counts atomic.Int64
	all    sync.WaitGroup
}

func startLoad(l *lab.Lab, connections int) (*load, error) {
	d := &load{done: make(chan struct{})}
	for range connections {
		c, err := l.Client.Dial(context.Background(), "tcp", address)
		if err != nil {
			d.stop()
			return nil, err
		}
		d.all.Add(2)
		go func() {
			defer d.all.Done()
			in := bufio.NewReader(c)
			for {
				if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
					return
				}
				r, err := http.ReadResponse(in, nil)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return
				}
				d.counts.Add(1)
			}
		}()
		go func() {
			defer d.all.Done()
			<-d.done
			c.Close()
		}()
	}
	return d, nil
}

func (d *load) stop() {
	close(d.done)
	d.all.Wait()
}

// rate is how many requests a second are answered for a while.
func (d *load) rate(over time.Duration) float64 {
	before, start := d.counts.Load(), time.Now()
	time.Sleep(over)
	return float64(d.counts.Load()-before) / time.Since(start).Seconds()
}
