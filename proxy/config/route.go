package config

import (
	"bytes"
	"slices"
)

// Find returns the first route that matches a request, nil when none does. host
// is the value of the Host field (or the authority of the target) as received,
// in any case, with or without a port; path is the request target from its
// first slash on. Find neither allocates nor keeps what it was given.
func (l *Listener) Find(host, path []byte) *Route {
	if i := l.Index(host, path); i >= 0 {
		return &l.Routes[i]
	}
	return nil
}

// Index is Find for the place of the route in Routes; -1: none matches.
func (l *Listener) Index(host, path []byte) int {
	host = hostName(host)
	for i := range l.Routes {
		if l.Routes[i].match(host, path) {
			return i
		}
	}
	return -1
}

// match tells whether the route takes a request. host has neither port nor
// trailing dot.
func (r *Route) match(host, path []byte) bool {
	if len(path) < len(r.Path) || string(path[:len(r.Path)]) != r.Path {
		return false
	}
	if r.Host == "" {
		return true
	}
	if r.Host[0] != '*' {
		return equalFold(host, r.Host)
	}
	// "*.example.org" leaves ".example.org", which must follow at least one byte.
	suffix := r.Host[1:]
	return len(host) > len(suffix) && equalFold(host[len(host)-len(suffix):], suffix)
}

// hostName returns host without its port and without the dot of an absolute
// name. An IPv6 address keeps its brackets.
func hostName(host []byte) []byte {
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	return host
}

// equalFold tells whether host is name, which is in lower case. Only ASCII
// letters have a case: host names beyond ASCII come as punycode (RFC 5891 4.4).
func equalFold(host []byte, name string) bool {
	if len(host) != len(name) {
		return false
	}
	for i, c := range host {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return false
		}
	}
	return true
}

// MayUpgrade tells whether a request that r matches may upgrade its connection to
// what its Upgrade field asks for: one protocol or several, all of which must be
// allowed. It neither allocates nor keeps what it was given.
func (l *Listener) MayUpgrade(r *Route, field []byte) bool {
	allowed := l.Upgrade
	if r.Upgrade != nil {
		allowed = r.Upgrade
	}
	for {
		name, rest, more := bytes.Cut(field, []byte(","))
		name = bytes.Trim(name, " \t")
		if !slices.ContainsFunc(allowed, func(p string) bool { return equalFold(name, p) }) {
			return false
		}
		if field = rest; !more {
			return true
		}
	}
}

// MayConnect tells whether a CONNECT that r matches is sent to its upstream.
func (l *Listener) MayConnect(r *Route) bool {
	return r.Connect == On || r.Connect == Unset && l.Connect
}

// Connects tells whether CONNECT is sent to an upstream by any route.
func (c *Config) Connects() bool {
	return slices.ContainsFunc(c.Listeners, func(l Listener) bool {
		return slices.ContainsFunc(l.Routes, func(r Route) bool { return l.MayConnect(&r) })
	})
}
