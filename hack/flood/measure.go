package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

const (
	address         = "10.1.0.1:80"
	nginx, ringroad = "nginx", "ringroad"
	// connections are open while there is a flood. Each is of a client of its own, so that no limit for one client is any to them.
	connections = 16
	// tries is how many new ones are opened meanwhile, and longest how long one may take: as long as one SYN that is sent again, and as
	// long for its answer.
	tries    = 10
	longest  = 2 * oneAgain
	oneAgain = 1500 * time.Millisecond
)

// Limits for one client, which only a flood of HTTP meets.
const (
	clientConnections = 16
	clientRequests    = 5000 // a second, and at once
)

var nginxConfig = fmt.Sprintf(`	limit_conn_zone $binary_remote_addr zone=connections:10m;
	limit_req_zone $binary_remote_addr zone=requests:10m rate=%[2]dr/s;
	upstream backend { server 10.2.0.2:8080; keepalive 256; keepalive_requests 100000000; }
	server {
		listen 10.1.0.1:80 backlog=4096;
		limit_conn connections %[1]d;
		limit_req zone=requests burst=%[2]d nodelay;
		limit_req_status 429;
		limit_req_log_level info;
		limit_conn_log_level info;
		keepalive_requests 100000000;
		location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
`, clientConnections, clientRequests)

var ringroadConfig = fmt.Sprintf(`interfaces: [e0, e1]
rx_checksum: verify
admin: off
listeners: [{address: "10.1.0.1:80", upstream: nginx}]
upstreams: {nginx: {servers: ["10.2.0.2:8080"]}}
limits: {keepalive_requests: 0, client: {connections: %d, requests: %d}}
`, clientConnections, clientRequests)

// route has answers to made-up sources go to the client, whose kernel drops them but for those of its own.
func route(l *lab.Lab, o *options) error {
	type command struct {
		n    *lab.Namespace
		args []string
	}
	commands := []command{{l.Edge, []string{"ip", "route", "add", flood.Sources.String(), "via", lab.Client4.String()}}}
	for i := range connections + 1 {
		commands = append(commands, command{l.Client, []string{"ip", "address", "add", source(i).String(), "dev", "lo"}})
	}
	if o.gro {
		commands = append(commands, command{l.Client, []string{"ethtool", "-K", "c0", "gro", "on"}})
	}
	for _, c := range commands {
		if _, err := c.n.Run(5*time.Second, c.args[0], c.args[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// source is an address of the client's: 0 floods with HTTP, the others are those of connections. Frames are made up from others.
func source(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 19, 255, byte(200 + i)})
}

// dial connects from an address of the client's.
func dial(ctx context.Context, l *lab.Lab, from netip.Addr) (c net.Conn, err error) {
	err = l.Client.Do(func() error {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		c, err = d.DialContext(ctx, "tcp4", address)
		return err
	})
	return c, err
}

// measured is what one process did.
type measured struct {
	rate                      int     // frames a second; requests in a flood of HTTP
	before, under             float64 // answers a second
	opened, tried             int
	memoryBefore, memoryAfter float64 // MB
}

// kept is in percent.
func (m measured) kept() float64 { return 100 * m.under / m.before }

func measure(l *lab.Lab, o *options, name string, kind flood.Kind, rate int) (m measured, err error) {
	var p *lab.Process
	if name == nginx {
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
	load, err := startLoad(l)
	if err != nil {
		return m, err
	}
	defer load.stop()
	load.rate(o.seconds / 4) // to warm up
	m.before = load.rate(o.seconds)
	m.memoryBefore, err = megabytes(p)
	if err != nil {
		return m, err
	}
	stop, done := make(chan struct{}), make(chan error)
	var sent atomic.Int64
	go func() {
		n, err := send(l, kind, rate, o.seconds+longest, stop)
		sent.Store(int64(n))
		done <- err
	}()
	start := time.Now()
	opened := make(chan int)
	go func() { opened <- open(l, o.seconds) }()
	if o.during != "" {
		c := exec.Command("sh", "-c", o.during)
		c.Env = append(os.Environ(), "KIND="+string(kind), "PROXY="+name, fmt.Sprint("RATE=", rate), fmt.Sprint("PID=", p.PID()))
		c.Stdout, c.Stderr = os.Stderr, os.Stderr
		if err := c.Start(); err != nil {
			return m, err
		}
		defer c.Wait() //nolint:errcheck // it reports itself
	}
	m.under = load.rate(o.seconds)
	m.memoryAfter, err = megabytes(p)
	m.opened, m.tried = <-opened, tries
	close(stop)
	took := time.Since(start)
	if e := <-done; err == nil {
		err = e
	}
	m.rate = int(float64(sent.Load()) / min(took, o.seconds+longest).Seconds())
	return m, err
}

func megabytes(p *lab.Process) (float64, error) {
	b, err := p.Memory()
	return float64(b) / 1e6, err
}

// open tries to get answers on new connections, which begin one after the other within a while, and returns how many did.
func open(l *lab.Lab, within time.Duration) int {
	var opened atomic.Int64
	var all sync.WaitGroup
	for range tries {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), oneAgain)
			defer cancel()
			c, err := l.Client.Dial(ctx, "tcp", address)
			if err != nil {
				return
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(oneAgain))
			if request(c, bufio.NewReader(c)) == http.StatusOK {
				opened.Add(1)
			}
		})
		time.Sleep(within / tries) // paces, and waits for nothing
	}
	all.Wait()
	return int(opened.Load())
}

// load is requests on open connections, one after the other on each.
type load struct {
	done   chan struct{}
	counts atomic.Int64
	all    sync.WaitGroup
}

func startLoad(l *lab.Lab) (*load, error) {
	d := &load{done: make(chan struct{})}
	for i := range connections {
		c, err := dial(context.Background(), l, source(1+i))
		if err != nil {
			d.stop()
			return nil, err
		}
		d.all.Add(2)
		go func() {
			defer d.all.Done()
			in := bufio.NewReader(c)
			for request(c, in) == http.StatusOK {
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

// request gets the status of an answer; 0: there is none.
func request(c net.Conn, in *bufio.Reader) int {
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		return 0
	}
	r, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return 0
	}
	return r.StatusCode
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
