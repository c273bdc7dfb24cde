package proxy

import (
	"time"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// settings is what one configuration makes of the worker, but for its listeners. It
// is not changed afterwards: a reload puts another one in its place.
type settings struct {
	config   *config.Config
	limits   *http1.Limits // exchanges keep those that they began with
	client   clientLimits
	timeouts timeouts
	forward  http1.ForwardOptions // what those of all routes are made from
	vias     [2][]byte            // Via lines for what came as HTTP/1.0 and HTTP/1.1; nil: none
	groups   []*upstream.Group    // as config.Upstreams
}

// newSettings works out c. Of the groups that are there, those that can go on as
// c says stay, unchanged as yet.
func newSettings(c *config.Config, groups []*upstream.Group) settings {
	s := settings{
		config: c,
		limits: &http1.Limits{
			RequestLineBytes: c.Limits.RequestLineBytes,
			FieldsBytes:      c.Limits.FieldsBytes,
			FieldCount:       c.Limits.FieldCount,
			BodyBytes:        c.Limits.BodyBytes,
			AllowConnect:     c.Connects(),

			ChunkExtensionBytes: atMost(c.Limits.ChunkExtensionBytes),
			ChunkOverheadBytes:  atMost(c.Limits.ChunkOverheadBytes),
			TrailerBytes:        c.Limits.TrailerBytes,
			TrailerCount:        c.Limits.TrailerCount,
		},
		client: newClientLimits(&c.Limits.Client),
		timeouts: [...]time.Duration{
			waitClientHeader: c.Timeouts.ClientHeader,
			waitKeepAlive:    c.Timeouts.KeepAlive,
			waitClientBody:   c.Timeouts.ClientBody,
			waitClientSend:   c.Timeouts.ClientSend,
			waitLinger:       c.Timeouts.Linger,
			waitConnect:      c.Timeouts.Connect,
			waitBackendRead:  c.Timeouts.BackendRead,
			waitBackendSend:  c.Timeouts.BackendSend,
			waitTunnel:       c.Timeouts.Tunnel,
			waitIdle:         0, // each upstream has its own
		},
	}
	if c.XForwarded != config.XForwardedOff {
		s.forward.ForwardedProto = []byte("http")
		s.forward.ForwardedHost = true
		s.forward.DropForwarded = c.XForwarded == config.XForwardedReplace
	}
	if c.Via {
		s.vias = [2][]byte{[]byte("Via: 1.0 ringroad\r\n"), []byte("Via: 1.1 ringroad\r\n")}
	}
	for i := range c.Upstreams {
		s.groups = append(s.groups, groupFor(&c.Upstreams[i], groups))
	}
	return s
}

// groupFor returns the group that becomes what c describes, a new one if there is
// none.
func groupFor(c *config.Upstream, groups []*upstream.Group) *upstream.Group {
	for _, g := range groups {
		if g.Continues(c) {
			return g
		}
	}
	return upstream.New(c)
}

// atMost is n as a limit of package http1, where 0 is a default and less is none.
func atMost(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// maxHeadBytes is how long a head may be.
func (s *settings) maxHeadBytes() int {
	return s.config.Limits.RequestLineBytes + s.config.Limits.FieldsBytes
}
