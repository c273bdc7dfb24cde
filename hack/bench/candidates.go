package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringroad/hack/lab"
)

// contender is a candidate and how wide it runs.
type contender struct {
	name   string
	queues int // of each link; workers too
}

func (c contender) String() string {
	if c.queues == 1 {
		return c.name
	}
	return fmt.Sprintf("%s-%d", c.name, c.queues)
}

// parseContender reads NAME or NAME-N.
func parseContender(text string, queues int) (contender, error) {
	c := contender{name: text, queues: queues}
	if name, number, ok := strings.Cut(text, "-"); ok {
		n, err := strconv.Atoi(number)
		if err != nil {
			return c, fmt.Errorf("candidate %q: %q is no number of queues", text, number)
		}
		c = contender{name: name, queues: n}
	}
	if _, ok := candidates[c.name]; !ok {
		return c, fmt.Errorf("no candidate is called %q: there are %s", c.name, strings.Join(candidateNames(), ", "))
	}
	if c.queues < 1 || c.queues > maxQueues {
		return c, fmt.Errorf("candidate %q on %d queues: from 1 to %d are possible", text, c.queues, maxQueues)
	}
	return c, nil
}

// maxQueues is more than any machine that runs this has processors to spare.
const maxQueues = 64

// candidate is something that runs in the edge, or nothing at all.
type candidate struct {
	address string       // that clients connect to
	process *lab.Process // nil: there is no proxy
}

// cpu and memory are those of the proxy, all its processes together.
func (c *candidate) cpu() (time.Duration, error) {
	if c.process == nil {
		return 0, nil
	}
	return c.process.CPU()
}

func (c *candidate) memory() (int64, error) {
	if c.process == nil {
		return 0, nil
	}
	return c.process.Memory()
}

// candidates start what is to be measured. When they return, clients may connect or will be able to within seconds.
var candidates = map[string]func(*lab.Lab, options) (*candidate, error){
	"direct":   direct,
	"nginx":    nginx,
	"haproxy":  haproxy,
	"ringroad": ringroad,
}

func candidateNames() []string { return slices.Sorted(maps.Keys(candidates)) }

// proxyAddress is where every proxy listens; only one runs at a time.
const proxyAddress = "10.1.0.1:80"

func direct(*lab.Lab, options) (*candidate, error) {
	return &candidate{address: "10.2.0.2:8080"}, nil
}

// nginxConfig is nginx as one would run it for speed: kept connections, no log, and with several workers a listening socket each.
const nginxConfig = `	upstream backend {
		server 10.2.0.2:8080;
		keepalive 256;
		keepalive_requests 100000000;
		keepalive_timeout 300;
	}
	server {
		listen 10.1.0.1:80 backlog=4096{{if gt .Workers 1}} reuseport{{end}};
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $http_host;
		}
	}
`

func nginx(l *lab.Lab, _ options) (*candidate, error) {
	p, err := l.StartNginx(l.Edge, "edge", l.Options().Queues, nginxConfig, nil)
	if err != nil {
		return nil, err
	}
	return &candidate{address: proxyAddress, process: p}, nil
}

const haproxyConfig = `global
  nbthread %d
  maxconn 8000
defaults
  mode http
  option forwardfor
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  http-reuse always
frontend clients
  bind 10.1.0.1:80 backlog 4096
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %%[req.hdr(host)]
  default_backend backend
backend backend
  server s1 10.2.0.2:8080 pool-max-conn 1000
`

func haproxy(l *lab.Lab, _ options) (*candidate, error) {
	path := filepath.Join(l.Dir, "haproxy.cfg")
	if err := os.WriteFile(path, fmt.Appendf(nil, haproxyConfig, l.Options().Queues), 0o644); err != nil {
		return nil, err
	}
	p, err := l.Start("haproxy", l.Edge.Exec("haproxy", "-db", "-f", path))
	if err != nil {
		return nil, err
	}
	return &candidate{address: proxyAddress, process: p}, nil
}

const ringroadConfig = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "10.1.0.1:80", upstream: backend}
upstreams:
  backend: {servers: ["10.2.0.2:8080"], keepalive: 256, keepalive_requests: 0}
limits: {keepalive_requests: 0}
log: {access: off}
`

func ringroad(l *lab.Lab, o options) (*candidate, error) {
	configuration := ringroadConfig
	if key := l.Options().RSS; key != nil {
		configuration += fmt.Sprintf("rss: {key: %q}\n", key)
	}
	var flags []string
	if o.profile != "" {
		flags = []string{"--cpu-profile", o.profile}
	}
	r, err := l.StartRingroad(o.binary, configuration+o.settings+"\n", flags...)
	if err != nil {
		return nil, err
	}
	return &candidate{address: proxyAddress, process: r.Process}, r.WaitReady(10 * time.Second)
}

func (c *candidate) stop() {
	if c.process != nil {
		c.process.Stop(5 * time.Second)
	}
}

// said is an error with what the candidate printed.
func (c *candidate) said() error {
	if c.process == nil || c.process.Output() == "" {
		return nil
	}
	return fmt.Errorf("%s printed:\n%s", c.process.Name, c.process.Output())
}
