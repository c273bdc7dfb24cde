package proxy

import (
	"fmt"
	"net/http"
	"time"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// timeouts is how long each kind of wait may take.
type timeouts [waitIdle + 1]time.Duration

// route is a route of a listener with everything that its requests need, made
// when the worker starts and at each reload.
type route struct {
	config   *config.Route
	group    *upstream.Group // nil valid iff answer is not
	answer   *fixedAnswer    // what requests are answered without a backend; nil: they go to group
	timeouts timeouts

	// forward is the same for all requests of the route but for what serialise
	// sets.
	forward      http1.ForwardOptions
	forwardedFor bool              // X-Forwarded-For is written
	request      template          // field lines for requests
	response     template          // field lines for responses
	remove       []http1.FieldName // fields that responses lose
}

// fixedAnswer is the answer of a route to every request.
type fixedAnswer struct {
	status   int
	page     *errorPage // nil: as for an error with the status
	location template   // a field line; nil: none
}

// routing is what a listener does with requests, as one configuration says.
type routing struct {
	config *config.Listener
	routes []route     // as config.Routes
	pages  *errorPages // nil: none
}

// newRouting works out what c says.
func (s *settings) newRouting(c *config.Listener, read *pages) (r routing, err error) {
	r = routing{config: c, routes: make([]route, len(c.Routes))}
	for i := range r.routes {
		if err := s.newRoute(&r.routes[i], c, &c.Routes[i]); err != nil {
			return r, fmt.Errorf("listener %s: route %d: %w", c.Address, i, err)
		}
	}
	r.pages, err = s.newPages(c, read)
	return r, err
}

func (s *settings) newRoute(r *route, l *config.Listener, c *config.Route) error {
	r.config, r.timeouts = c, s.timeouts
	for kind, d := range map[wait]time.Duration{
		waitClientBody:  c.Timeouts.ClientBody,
		waitClientSend:  c.Timeouts.ClientSend,
		waitConnect:     c.Timeouts.Connect,
		waitBackendRead: c.Timeouts.BackendRead,
		waitBackendSend: c.Timeouts.BackendSend,
	} {
		if d > 0 {
			r.timeouts[kind] = d
		}
	}
	if !c.Answers() {
		r.group = s.groups[c.UpstreamIndex]
	}

	in, err := newEdits(&l.Request, &c.Request, s.config.Forwarded)
	if err != nil {
		return err
	}
	in.widen()
	r.request = in.lines
	r.forward = s.forward
	r.forward.Remove = in.remove
	r.forward.Host = in.host
	r.forwardedFor = s.config.XForwarded != config.XForwardedOff && !in.removes("X-Forwarded-For")
	if in.removes("X-Forwarded-Proto") {
		r.forward.ForwardedProto = nil
	}
	if in.removes("X-Forwarded-Host") {
		r.forward.ForwardedHost = false
	}

	out, err := newEdits(&l.Response, &c.Response, config.ForwardedOff)
	if err != nil {
		return err
	}
	r.response, r.remove = out.lines, out.remove

	switch {
	case c.Redirect != nil:
		r.answer = &fixedAnswer{status: c.Redirect.Status}
		if !out.removes("Location") {
			var e edits
			if err := e.line("Location", c.Redirect.Location); err != nil {
				return err
			}
			r.answer.location = e.lines
		}
	case c.Return != nil:
		r.answer = &fixedAnswer{status: c.Return.Status}
		if c.Return.Body != "" || c.Return.Status < 400 {
			r.answer.page = &errorPage{body: []byte(c.Return.Body), kind: c.Return.Type}
		}
	}
	return nil
}

// answerRoute answers a request of a route that has no upstream.
func (x *exchange) answerRoute() {
	w := x.session.worker
	a := x.route.answer
	if x.req.MethodID == http1.MethodConnect {
		// To CONNECT a 2xx would be a tunnel, with nobody at the other end.
		x.answer(http.StatusNotImplemented)
		return
	}
	w.lines = x.expand(w.lines[:0], a.location)
	x.reply(a.status, a.page, true)
}
