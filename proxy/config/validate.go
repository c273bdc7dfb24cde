package config

import (
	"fmt"
	"math/bits"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Validate checks ranges, references and what keys demand of one another, and
// resolves Route.UpstreamIndex. The error is an Errors. What Parse and
// Flags.Load return is valid already.
func (c *Config) Validate() error {
	if bad := c.check(nil); len(bad) > 0 {
		return bad.sorted()
	}
	return nil
}

// checker collects mistakes, leaving out what only follows from a fault that
// was found while reading.
type checker struct {
	c      *Config
	faults Errors // of reading
	bad    Errors
}

func (c *Config) check(faults Errors) Errors {
	v := checker{c: c, faults: faults}
	v.presence()
	v.ranges()
	v.rings()
	v.buffers("tcp.receive_buffer", c.TCP.ReceiveBuffer)
	v.buffers("tcp.send_buffer", c.TCP.SendBuffer)
	v.interfaces()
	v.listeners()
	v.routes()
	v.upstreams()
	v.edits()
	v.answers()
	v.filter()
	return v.bad
}

func (v *checker) failf(path, nearest, format string, a ...any) {
	if v.faulty(path) {
		return
	}
	v.bad = append(v.bad, &Error{Position: v.c.origin.position(path), Key: path, Message: fmt.Sprintf(format, a...), Nearest: nearest})
}

// faulty tells whether reading found a fault in, beneath or around path, or an
// unknown key that was meant to be it.
func (v *checker) faulty(path string) bool {
	return slices.ContainsFunc(v.faults, func(f *Error) bool {
		rest, beneath := strings.CutPrefix(f.Key, path)
		if beneath && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return true
		}
		if rest, around := strings.CutPrefix(path, f.Key); around && (rest[0] == '.' || rest[0] == '[') {
			return true // nothing in it was read
		}
		return f.Nearest != "" && join(parent(f.Key), f.Nearest) == path
	})
}

// presence finds keys without default that nobody gave.
func (v *checker) presence() {
	if len(v.c.Interfaces) == 0 {
		v.failf("interfaces", "", "is missing: name at least one network interface")
	}
	if len(v.c.Listeners) == 0 {
		v.failf("listeners", "", "is missing: name at least one address to listen on")
	}
	if len(v.c.Upstreams) == 0 {
		v.failf("upstreams", "", "is missing: name at least one backend")
	}
	for i := range v.c.Listeners {
		path := fmt.Sprintf("listeners[%d]", i)
		if len(v.c.Listeners[i].Routes) == 0 && !v.faulty(path+".routes") {
			v.failf(path+".upstream", "", "is missing: a listener names an upstream, or routes that do")
		}
	}
	v.c.visit(func(path string, k *key, p any) {
		if k.need && path != "interfaces" && isZero(p) {
			v.failf(path, "", "is missing")
		}
	})
}

func isZero(p any) bool { return reflect.ValueOf(p).Elem().IsZero() }

// ranges compares every value with the bounds of its key, and every word with
// the words of its key.
func (v *checker) ranges() {
	v.c.visit(func(path string, k *key, p any) {
		switch k.kind {
		case word:
			if isZero(p) && k.values[0] == "off" {
				return // a Config made by hand says nothing
			}
			if text := k.text(p)[0]; !slices.Contains(k.values, text) {
				bad := oneOf(k.values, text)
				v.failf(path, bad.nearest, "%s", bad.message)
			}
			return
		case count, size, duration, ports:
		default:
			return
		}
		if len(k.values) > 0 && isZero(p) {
			return // "auto", "off"
		}
		if _, given := v.c.origin.at[path]; !given && k.def == "" && isZero(p) {
			return // left to another key
		}
		low, high := numbers(p)
		if k.min != "" && low < k.bound(k.min) || k.max != "" && high > k.bound(k.max) {
			v.failf(path, "", "%s %s", k.text(p)[0], k.outside())
		}
	})
}

// numbers returns the least and the greatest number in a value.
func numbers(p any) (low, high int64) {
	switch p := p.(type) {
	case *int:
		return int64(*p), int64(*p)
	case *int64:
		return *p, *p
	case *time.Duration:
		return int64(*p), int64(*p)
	case *PortRange:
		return int64(p.First), int64(p.Last)
	}
	panic(fmt.Sprintf("no number in %T", p)) // a kind of the table without a case: TestTable
}

// bound reads a bound of the range of a key.
func (k *key) bound(text string) int64 {
	if k.kind == duration {
		d, _ := parseDuration(text)
		return int64(d)
	}
	n, _ := k.parseNumber(text)
	return n
}

// outside says what the range of a key is.
func (k *key) outside() string {
	words := ""
	if len(k.values) > 0 {
		words = k.values[0]
	}
	switch {
	case k.min == k.max && words != "":
		return fmt.Sprintf("is not possible: write %s or %s", words, k.min)
	case k.max == "":
		return "is less than " + k.min
	case words != "":
		return fmt.Sprintf("is out of range: %s, or %s to %s", words, k.min, k.max)
	}
	return fmt.Sprintf("is out of range: %s to %s", k.min, k.max)
}

func (v *checker) rings() {
	r := v.c.Rings
	if r.Entries > 0 && bits.OnesCount(uint(r.Entries)) != 1 {
		up := 1 << bits.Len(uint(r.Entries))
		v.failf("rings.entries", "", "%d is not a power of two: %d and %d are next to it", r.Entries, up/2, up)
	}
	if b := r.FrameBytes; b != 0 && b != 2048 && b != 4096 {
		v.failf("rings.frame_bytes", "", "%s is neither 2KiB nor 4KiB: the kernel takes frames of these sizes only", formatSize(int64(b)))
	}
	if f := r.Frames; bits.OnesCount(uint(r.Entries)) == 1 && f > 2*r.Entries {
		v.failf("rings.frames", "", "%d is more than rings of %d entries can hold: %d, half for receiving and half for sending", f, r.Entries, 2*r.Entries)
	}
}

func (v *checker) buffers(path string, b Buffer) {
	if b.MinBytes > b.DefaultBytes {
		v.failf(path+".default", "", "%s is less than %s.min, %s", formatSize(int64(b.DefaultBytes)), path, formatSize(int64(b.MinBytes)))
	}
	if b.DefaultBytes > b.MaxBytes {
		v.failf(path+".max", "", "%s is less than %s.default, %s", formatSize(int64(b.MaxBytes)), path, formatSize(int64(b.DefaultBytes)))
	}
}

func (v *checker) interfaces() {
	for i, name := range v.c.Interfaces {
		path := fmt.Sprintf("interfaces[%d]", i)
		if slices.Contains(v.c.Interfaces[:i], name) {
			v.failf(path, "", "%s is named twice", name)
		}
		if _, bad := parseInterface(name); bad != nil {
			v.failf(path, "", "%s", bad.message)
		}
	}
}

func (v *checker) listeners() {
	seen := make(map[netip.AddrPort]bool)
	for i := range v.c.Listeners {
		a := v.c.Listeners[i].Address
		if a.IsValid() && seen[a] {
			v.failf(fmt.Sprintf("listeners[%d].address", i), "", "%s is listened on twice", a)
		}
		seen[a] = true
		if p := v.c.BackendPorts; a.IsValid() && p.First <= a.Port() && a.Port() <= p.Last {
			v.failf(fmt.Sprintf("listeners[%d].address", i), "", "port %d is one of backend_ports, %d-%d: frames for the one would be taken for the other", a.Port(), p.First, p.Last)
		}
	}
}

// routes resolves upstreams and finds routes that no request reaches.
func (v *checker) routes() {
	names := make([]string, len(v.c.Upstreams))
	for i := range v.c.Upstreams {
		names[i] = v.c.Upstreams[i].Name
	}
	for i := range v.c.Listeners {
		l := &v.c.Listeners[i]
		for j := range l.Routes {
			r := &l.Routes[j]
			path := routePath(v.c, i, j)
			r.UpstreamIndex = slices.Index(names, r.Upstream)
			if r.UpstreamIndex < 0 && r.Upstream != "" && len(names) > 0 && !v.faulty("upstreams."+r.Upstream) {
				v.failf(path+".upstream", nearest(r.Upstream, names), "no upstream is called %q", r.Upstream)
			}
			for k := range j {
				if before := &l.Routes[k]; before.covers(r) && !v.faulty(routePath(v.c, i, k)) {
					v.failf(path, "", "is never reached: routes[%d] takes every request that it matches", k)
					break
				}
			}
		}
	}
}

// covers tells whether r matches every request that other matches.
func (r *Route) covers(other *Route) bool {
	if !strings.HasPrefix(other.Path, r.Path) {
		return false
	}
	switch {
	case r.Host == "" || r.Host == other.Host:
		return true
	case r.Host[0] == '*':
		return strings.HasSuffix(other.Host, r.Host[1:])
	}
	return false
}

func (v *checker) upstreams() {
	for i := range v.c.Upstreams {
		u := &v.c.Upstreams[i]
		path := "upstreams." + u.Name
		if !upstreamName.MatchString(u.Name) || slices.ContainsFunc(v.c.Upstreams[:i], func(o Upstream) bool { return o.Name == u.Name }) {
			v.failf(path, "", "%q is not a name, or names two upstreams", u.Name)
		}
		for j, a := range u.Servers {
			server := fmt.Sprintf("%s.servers[%d]", path, j)
			switch {
			case !a.IsValid() || a.Addr().IsUnspecified():
				v.failf(server, "", "%s is no address to connect to", a)
			case slices.Contains(u.Servers[:j], a):
				v.failf(server, "", "%s is named twice", a)
			}
			if k := slices.IndexFunc(v.c.Listeners, func(l Listener) bool { return l.Address == a }); k >= 0 && a.IsValid() && !a.Addr().IsUnspecified() {
				v.failf(server, "", "%s is listeners[%d]: requests would go round for ever", a, k)
			}
		}
	}
}
