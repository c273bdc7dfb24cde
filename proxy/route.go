package proxy

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// timeouts is how long each kind of wait may take.
type timeouts [waitIdle + 1]time.Duration

// route is a route of a listener with everything that its requests need, made
// when the worker starts.
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

// errorPage is the body of answers of our own.
type errorPage struct {
	body []byte
	kind string // Content-Type
}

// errorPages holds pages by status, from 400 on.
type errorPages [200]*errorPage

// of returns the page for a status, nil for the built-in one.
func (p *errorPages) of(status int) *errorPage {
	if p == nil || status < 400 || status >= 400+len(p) {
		return nil
	}
	return p[status-400]
}

// newRoutes prepares the routes of a listener.
func (w *Worker) newRoutes(l *config.Listener) ([]route, error) {
	routes := make([]route, len(l.Routes))
	for i := range routes {
		if err := w.newRoute(&routes[i], l, &l.Routes[i]); err != nil {
			return nil, fmt.Errorf("listener %s: route %d: %w", l.Address, i, err)
		}
	}
	return routes, nil
}

func (w *Worker) newRoute(r *route, l *config.Listener, c *config.Route) error {
	r.config, r.timeouts = c, w.timeouts
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
		r.group = w.groups[c.UpstreamIndex]
	}

	in, err := newEdits(&l.Request, &c.Request, w.config.Forwarded)
	if err != nil {
		return err
	}
	in.widen()
	r.request = in.lines
	r.forward = w.forward
	r.forward.Remove = in.remove
	r.forward.Host = in.host
	r.forwardedFor = w.config.XForwarded != config.XForwardedOff && !in.removes("X-Forwarded-For")
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

// newPages reads the error pages of a listener; nil when there are none. Each file
// is read once for all listeners.
func (w *Worker) newPages(l *config.Listener, read map[string]*errorPage) (*errorPages, error) {
	var pages *errorPages
	for _, list := range [][]config.ErrorPage{w.config.ErrorPages, l.ErrorPages} {
		for i := range list {
			c := &list[i]
			p := read[c.File]
			if p == nil {
				body, err := readPage(c.File)
				if err != nil {
					return nil, fmt.Errorf("read error page for %d: %w", c.Status, err)
				}
				p = &errorPage{body: body, kind: c.ContentType()}
				read[c.File] = p
			}
			if pages == nil {
				pages = new(errorPages)
			}
			pages[c.Status-400] = p
		}
	}
	return pages, nil
}

func readPage(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, config.MaxErrorPageBytes+1))
	if err == nil && len(b) > config.MaxErrorPageBytes {
		err = fmt.Errorf("%s is longer than %d bytes: make it smaller, or let it refer to a file elsewhere", name, config.MaxErrorPageBytes)
	}
	return b, err
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
