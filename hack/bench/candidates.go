package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	"ringroad/hack/lab"
)

// Names of candidates.
const (
	direct       = "direct"
	nginx        = "nginx"
	haproxy      = "haproxy"
	ringroad     = "ringroad"
	ringroadSpin = "ringroad-spin"
	traced       = "traced"  // ringroad while one request in 1000 is followed
	scraped      = "scraped" // ringroad of which the metrics are asked for every second; of the others there is no admin endpoint
	base         = "base"
)

var (
	candidateNames = []string{direct, nginx, haproxy, ringroad, ringroadSpin, traced, scraped, base}
	peers          = []string{nginx, haproxy} // that ringroad is compared with
)

// parseCandidates reads names separated by commas.
func parseCandidates(text string) ([]string, error) {
	names := strings.Split(text, ",")
	for _, name := range names {
		if !slices.Contains(candidateNames, name) {
			return nil, fmt.Errorf("no candidate is called %q: there are %s", name, strings.Join(candidateNames, ", "))
		}
	}
	return names, nil
}

// of returns the candidates of a case: those of the run, and ringroad-spin only where the case or the user asks for it.
func (o *options) of(k *kase) []string {
	var names []string
	for _, name := range o.candidates {
		names = append(names, name)
		if name == ringroad && k.spin && k.idle == 0 && !slices.Contains(o.candidates, ringroadSpin) {
			names = append(names, ringroadSpin)
		}
	}
	return names
}

// cannot says why a candidate cannot run a case, or "".
func cannot(name string, k *kase) string {
	if name == direct && k.idle > 0 {
		return "there is no proxy that connections could take memory of"
	}
	return ""
}

// candidate is what runs in the edge, or nothing at all.
type candidate struct {
	name     string
	address  string        // that clients connect to
	process  *lab.Process  // nil: there is no proxy
	ringroad *lab.Ringroad // nil: it is another proxy
	beside   *lab.Process  // runs beside it, and is not measured; nil: nothing
	scraper  *scraper      // asks it for metrics; nil: nobody does
}

// setting is what configurations are made from. Every candidate gets the same sizes.
type setting struct {
	Listen, Backend string
	Workers         int
	KeepAlive       int // idle connections kept to the backend, a worker; 0: each request has its own connection
	Backlog         int
	Settings        string // of ringroad alone
}

// proxyAddress is where every proxy listens; only one runs at a time.
const proxyAddress = "10.1.0.1:80"

// start starts a candidate. When it returns, clients may connect or will be able to within seconds.
func (o *options) start(l *lab.Lab, name string, k *kase, profile string) (*candidate, error) {
	// No proxy shall open and close connections to its backend because fewer are kept than clients are active.
	s := setting{Listen: proxyAddress, Backend: k.backend(), Workers: l.Options().Queues, KeepAlive: 8192, Backlog: 8192}
	if k.freshBackend {
		s.KeepAlive = 0
	}
	c := &candidate{name: name, address: proxyAddress}
	// To each what loses least: for the kernel a queueing discipline makes bursts that its backlog has no room for.
	err := l.SetQdiscs(name != direct && name != nginx && name != haproxy)
	if err != nil {
		return nil, err
	}
	switch name {
	case direct:
		c.address = s.Backend
	case nginx:
		c.process, err = l.StartNginx(l.Edge, "edge", s.Workers, nginxConfig, s)
	case haproxy:
		c.process, err = startHAProxy(l, s)
	default:
		err = c.startRingroad(l, o, s, profile)
	}
	if err != nil {
		return nil, err
	}
	if err := l.Client.WaitTCP(c.address, 10*time.Second); err != nil {
		err = errors.Join(err, c.said())
		c.stop()
		return nil, err
	}
	return c, nil
}

// nginxConfig is nginx as one would run it for speed: kept connections, no log, nothing buffered on disk, bodies passed on as they
// come, and with several workers a listening socket each.
const nginxConfig = `	upstream backend {
		server {{.Data.Backend}};
		{{with .Data.KeepAlive}}keepalive {{.}}; keepalive_requests 100000000; keepalive_timeout 300;{{end}}
	}
	server {
		listen {{.Data.Listen}} backlog={{.Data.Backlog}}{{if gt .Workers 1}} reuseport{{end}};
		client_body_buffer_size 16k;
		proxy_request_buffering off;
		proxy_buffer_size 16k;
		proxy_buffers 8 16k;
		proxy_max_temp_file_size 0;
		location / {
			proxy_pass http://backend;
			proxy_http_version 1.1;
			proxy_set_header Connection "{{if not .Data.KeepAlive}}close{{end}}";
			proxy_set_header Host $http_host;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_set_header X-Forwarded-Proto $scheme;
			proxy_set_header X-Forwarded-Host $http_host;
		}
	}
`

// haproxyConfig: limits on files are lifted to what a process may open here, instead of a failure to start.
const haproxyConfig = `global
  nbthread {{.Workers}}
  ulimit-n 20000
  no strict-limits
  maxconn 9900
  tune.bufsize 16384
defaults
  mode http
  option forwardfor
  timeout connect 5s
  timeout client 300s
  timeout server 300s
  {{if .KeepAlive}}http-reuse always{{else}}http-reuse never
  option http-server-close{{end}}
frontend clients
  bind {{.Listen}} backlog {{.Backlog}}
  maxconn 9900
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend backend
backend backend
  fullconn 9900
  server s1 {{.Backend}} pool-max-conn {{.KeepAlive}}
`

func startHAProxy(l *lab.Lab, s setting) (*lab.Process, error) {
	var b bytes.Buffer
	if err := template.Must(template.New("haproxy").Parse(haproxyConfig)).Execute(&b, s); err != nil {
		return nil, err
	}
	path := filepath.Join(l.Dir, "haproxy.cfg")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		return nil, err
	}
	return l.Start("haproxy", l.Edge.Exec("haproxy", "-db", "-f", path))
}

const ringroadConfig = `interfaces: [e0, e1]
listeners:
  - {address: "{{.Listen}}", upstream: backend, backlog: {{.Backlog}}}
upstreams:
  backend: {servers: ["{{.Backend}}"], keepalive: {{.KeepAlive}}, keepalive_requests: 0, keepalive_timeout: 300s}
timeouts: {keepalive: 300s}
limits: {keepalive_requests: 0}
log: {access: off}
{{.Settings}}
`

func (c *candidate) startRingroad(l *lab.Lab, o *options, s setting, profile string) error {
	binary := o.binary
	switch c.name {
	case ringroad, traced, scraped:
		s.Settings = o.settings
	case ringroadSpin:
		s.Settings = o.settings + "\nwait: spin"
	case base:
		binary = o.base
	}
	if l.Options().Offloads != lab.OffloadsOn { // else segments of the peers have no checksum
		s.Settings += "\nrx_checksum: verify"
	}
	if key := l.Options().RSS; key != nil {
		s.Settings += fmt.Sprintf("\nrss: {key: %q}", key)
	}
	var b bytes.Buffer
	if err := template.Must(template.New("ringroad").Parse(ringroadConfig)).Execute(&b, s); err != nil {
		return err
	}
	admin, flags := filepath.Join(l.Dir, "admin.sock"), []string{"--admin", "off"}
	if c.name == scraped {
		flags = []string{"--admin", "unix:" + admin}
	}
	if profile != "" {
		flags = append(flags, "--cpu-profile", profile)
	}
	r, err := l.StartRingroad(binary, b.String(), flags...)
	if err != nil {
		return err
	}
	c.process, c.ringroad = r.Process, r
	if err = r.WaitReady(10 * time.Second); err == nil && c.name == traced {
		if c.beside, err = r.StartCommand("trace", "--next", "0", "--sample", "1000", "--json"); err == nil {
			err = c.beside.WaitLine("following requests", 10*time.Second)
		}
	}
	if err == nil && c.name == scraped {
		c.scraper = scrape(admin)
	}
	if err != nil {
		c.stop()
	}
	return err
}

func (c *candidate) stop() {
	if c.scraper != nil {
		c.scraper.stop()
	}
	if c.beside != nil {
		c.beside.Stop(5 * time.Second)
	}
	if c.process != nil {
		c.process.Stop(5 * time.Second)
	}
}

// said is an error with what the candidate printed.
func (c *candidate) said() error {
	if c.process == nil || c.process.Output() == "" {
		return nil
	}
	return fmt.Errorf("%s printed:\n%s", c.name, c.process.Output())
}
