package main

import (
	"fmt"
	"strings"

	"ringroad/hack/lab"
)

// closing says when connections end.
type closing int

const (
	kept           closing = iota // never
	closedByProxy                 // after each request, which carries Connection: close
	closedByClient                // after each request, without a word
)

// kase is a load under which candidates are compared. What it leaves out is: 64 connections kept open, GET, an empty answer, one queue,
// offloads off.
type kase struct {
	name  string
	about string
	quick bool // part of -quick

	connections  int    // of the client; 0 means 64
	path         string // request target; "" means /empty
	upload       int    // bytes of the request's body; 0 means GET
	chunked      bool   // the request's body is
	pipeline     int    // requests sent at once; 0 means 1
	closing      closing
	freshBackend bool // the proxy opens a connection to the backend for each request
	queues       int  // of each link, with as many workers; 0 means 1
	rss          bool // the links distribute frames over their queues as a NIC does, by a hash that ringroad knows
	offloads     bool // the veths keep their offloads; else they are all off, as on a wire
	spin         bool // ringroad is measured with wait: spin too
	latency      bool // also measured with an open loop
	idle         int  // connections that do nothing at all, for their memory; nothing else is measured then

	targets []target
}

// cases is every load there is, in the order of the report. The targets are those of issue 7.
var cases = []*kase{
	{name: "c1", about: "1 connection", quick: true, connections: 1, spin: true, targets: []target{
		{metric: p50, limit: 0.9}, {metric: p50, limit: 0.55, candidate: ringroadSpin},
	}},
	{name: "c64", about: "64 connections", quick: true, spin: true, latency: true, targets: append(small,
		target{metric: userCPU, limit: 5, absolute: true}, target{metric: memory, limit: 40, absolute: true})},
	{name: "c1000", about: "1,000 connections", quick: true, connections: 1000, latency: true, targets: many},
	{name: "c5000", about: "5,000 connections", connections: 5000, targets: many},
	{name: "close", about: "a connection for each request, closed by the proxy", quick: true, closing: closedByProxy,
		targets: []target{{metric: rate, limit: 1.15}}},
	{name: "client-close", about: "a connection for each request, closed by the client", closing: closedByClient,
		targets: []target{{metric: rate, limit: 1.15}}},
	{name: "close-both", about: "a connection for each request, to the backend too", closing: closedByProxy, freshBackend: true,
		targets: []target{{metric: rate, limit: 1}}},
	{name: "1k", about: "1 KB answers", path: "/f/1k", targets: small},
	{name: "64k", about: "64 KB answers", quick: true, path: "/f/64k", targets: bulk},
	{name: "1m", about: "1 MB answers", path: "/f/1m", connections: 16, targets: bulk},
	{name: "chunked", about: "64 KB answers in chunks", path: "/chunked/64k", targets: bulk},
	{name: "up-1k", about: "1 KB uploads", upload: 1 << 10},
	{name: "up-64k", about: "64 KB uploads", upload: 64 << 10, targets: bulk},
	{name: "up-1m", about: "1 MB uploads", upload: 1 << 20, connections: 16, targets: bulk},
	{name: "up-chunked", about: "64 KB uploads in chunks", upload: 64 << 10, chunked: true, targets: bulk},
	{name: "pipeline", about: "16 requests sent at once", pipeline: 16},
	{name: "c64-on", about: "64 connections, offloads on", offloads: true},
	{name: "64k-on", about: "64 KB answers, offloads on", path: "/f/64k", offloads: true},
	{name: "1m-on", about: "1 MB answers, offloads on", path: "/f/1m", connections: 16, offloads: true},
	{name: "up-64k-on", about: "64 KB uploads, offloads on", upload: 64 << 10, offloads: true},
	{name: "c64-2q", about: "64 connections, two queues with RSS", queues: 2, rss: true},
	{name: "c1000-2q", about: "1,000 connections, two queues with RSS", connections: 1000, queues: 2, rss: true},
	{name: "close-2q", about: "a connection for each request, two queues with RSS", closing: closedByProxy, queues: 2, rss: true},
	{name: "64k-2q", about: "64 KB answers, two queues with RSS", path: "/f/64k", queues: 2, rss: true},
	{name: "c64-2q-random", about: "64 connections, two queues, replies at either", queues: 2},
	{name: "idle", about: "9,000 idle connections", idle: 9000, targets: []target{{metric: idleMemory, limit: 8, absolute: true}}},
}

var (
	small = []target{{metric: rate, limit: 1.25}, {metric: cost, limit: 0.75}}
	many  = []target{{metric: rate, limit: 1.1}, {metric: p99, limit: 1}}
	bulk  = []target{{metric: rate, limit: 1}}
)

// clients is how many connections the client has.
func (k *kase) clients() int {
	if k.connections == 0 {
		return 64
	}
	return k.connections
}

// links tells labs apart.
type links struct {
	queues   int
	rss      bool
	offloads lab.Offloads
}

func (k *kase) links() links {
	l := links{queues: max(k.queues, 1), rss: k.rss, offloads: lab.OffloadsOff}
	if k.offloads {
		l.offloads = lab.OffloadsOn
	}
	return l
}

// backend is the server that answers: nginx would answer an upload before it has read it.
func (k *kase) backend() string {
	port := lab.NginxPort
	if k.upload > 0 {
		port = lab.GoPort
	}
	return fmt.Sprintf("%v:%d", lab.Backend4, port)
}

func (k *kase) target() string {
	switch {
	case k.upload > 0:
		return "/discard"
	case k.path == "":
		return "/empty"
	default:
		return k.path
	}
}

// selectCases reads names separated by commas; none of them are all, or the quick ones.
func selectCases(names string, quick bool) ([]*kase, error) {
	var chosen []*kase
	if names == "" {
		for _, k := range cases {
			if k.quick || !quick {
				chosen = append(chosen, k)
			}
		}
		return chosen, nil
	}
	for name := range strings.SplitSeq(names, ",") {
		k := caseNamed(name)
		if k == nil {
			return nil, fmt.Errorf("no case is called %q: -list shows all", name)
		}
		chosen = append(chosen, k)
	}
	return chosen, nil
}

func caseNamed(name string) *kase {
	for _, k := range cases {
		if k.name == name {
			return k
		}
	}
	return nil
}
