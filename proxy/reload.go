package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// Reload is a configuration that is ready to take the place of the worker's. All
// its methods belong to the loop.
type Reload struct {
	worker    *Worker // nil: committed or aborted
	settings  settings
	listeners []*listener // as config.Listeners: the worker's, or new ones
	routings  []routing   // what they do from then on
}

// Prepare makes everything that c needs and may fail, new listeners included: these
// queue connections from then on. Nothing that is in use changes, and when Prepare
// fails, nothing at all. pages are the error pages, as in Options. One reload can
// be prepared at a time; Commit or Abort ends it. It must be called on the loop.
func (w *Worker) Prepare(c *config.Config, given map[string][]byte) (*Reload, error) {
	switch {
	case w.stop.Load() || w.draining:
		return nil, errors.New("prepare reload: the worker is about to end")
	case w.prepared != nil:
		return nil, errors.New("prepare reload: another one is neither committed nor aborted")
	}
	r := &Reload{worker: w, settings: newSettings(c, w.groups)}
	w.prepared = r
	read := pages{given: given}
	for i := range c.Listeners {
		if err := r.listen(&c.Listeners[i], &read); err != nil {
			r.Abort()
			return nil, fmt.Errorf("prepare reload: %w", err)
		}
	}
	return r, nil
}

// listen prepares the listener that c describes.
func (r *Reload) listen(c *config.Listener, read *pages) error {
	w := r.worker
	routing, err := r.settings.newRouting(c, read)
	if err != nil {
		return err
	}
	l := w.listenerOn(c)
	switch {
	case l == nil:
		if l, err = w.listen(c); err != nil {
			return err
		}
	case l.removed():
		l.gone = never
	}
	r.listeners = append(r.listeners, l)
	r.routings = append(r.routings, routing)
	return nil
}

// listenerOn returns the listener on the address of c, which may be leaving; nil
// when there is none.
func (w *Worker) listenerOn(c *config.Listener) *listener {
	for _, list := range [][]*listener{w.listeners, w.leaving} {
		for _, l := range list {
			if l.config.Address == c.Address {
				return l
			}
		}
	}
	return nil
}

// Abort gives up what was prepared. It does nothing after Commit.
func (r *Reload) Abort() {
	w := r.worker
	if w == nil {
		return
	}
	for _, l := range r.listeners {
		switch {
		case l.config == nil:
			l.Close()
		case l.removed():
			w.endSoon(l)
		}
	}
	r.over()
}

// over lets go of everything.
func (r *Reload) over() {
	r.worker.prepared = nil
	*r = Reload{}
}

// Commit puts the configuration in the place of the worker's. It cannot fail.
//
// Listeners whose address stays keep their accept queue and their sessions; an
// exchange under way ends as it began, the next request is treated in the new way.
// Removed listeners and servers take nothing new; what they have under way may end
// within timeouts.drain. After Abort, or when the worker began to drain, it does
// nothing.
func (r *Reload) Commit() {
	w := r.worker
	if w == nil {
		return
	}
	old := w.settings
	w.settings = r.settings
	if *w.limits == *old.limits {
		w.limits = old.limits // free exchanges hold it
	}
	until := w.now + w.config.Timeouts.Drain
	removed, restored := r.takeListeners(until)
	w.takeGroups(old.groups, until)
	w.takeSessions(removed, restored, old.timeouts[waitKeepAlive])
	w.takeClients(&old.client)
	if w.stats.Retiring > 0 {
		w.retireAt = earlier(w.retireAt, until)
	}
	w.buffers.resize(w.maxHeadBytes())
	w.reply, w.page = http1.AnswerOptions{}, http1.PageOptions{} // they point into old routes
	if w.access != nil {
		w.access.setFormat(w.config.Log.Format)
	}
	w.accepting = w.accepting || w.waiting() // max_connections may be another one
	w.stats.Reloads++
	r.over()
}

// takeListeners makes the worker's listeners those of r. It returns the ones that
// are removed by that, and the ones that had been and are back in time.
func (r *Reload) takeListeners(until time.Duration) (removed, restored []*listener) {
	w := r.worker
	before := w.listeners
	w.listeners = nil
	for i, l := range r.listeners {
		old := l.config
		l.routing = r.routings[i]
		if old == nil {
			w.serve(l)
			continue
		}
		w.listeners = append(w.listeners, l)
		if l.removed() {
			w.restore(l)
			restored = append(restored, l)
		}
		if l.config.Backlog != old.Backlog {
			if err := l.SetBacklog(l.config.Backlog); err != nil {
				w.log.Warn("the old backlog stays", slog.Any("error", err))
			}
		}
	}
	for _, l := range before {
		if !slices.Contains(w.listeners, l) {
			w.remove(l, until)
			removed = append(removed, l)
		}
	}
	return removed, restored
}

// takeGroups makes the groups what the configuration says, and removes those of
// before that it does not have any more.
func (w *Worker) takeGroups(before []*upstream.Group, until time.Duration) {
	for i, g := range w.groups {
		idle := g.IdleTimeout
		g.Update(&w.config.Upstreams[i], until, w.evicted)
		if shift := g.IdleTimeout - idle; shift != 0 {
			for _, s := range g.Servers {
				for c := range s.Idle() {
					b := c.Owner.(*backend)
					w.wheel.arm(&b.reading, waitIdle, max(b.reading.at+shift, w.now))
				}
			}
		}
	}
	for _, g := range before {
		if !slices.Contains(w.groups, g) {
			g.Remove(until, w.evicted)
		}
	}
}

// takeSessions looks at every session: those of removed listeners end as soon as
// they can, the others wait for a request as long as the configuration says now.
// keepAlive is how long they waited before. It counts what is retiring anew.
func (w *Worker) takeSessions(removed, restored []*listener, keepAlive time.Duration) {
	w.stats.Retiring = 0
	now := w.timeouts[waitKeepAlive]
	for s := w.sessions.next; s != &w.sessions; s = s.next {
		if s.leaving() {
			w.stats.Retiring++
		}
		if s.x != nil && s.x.backend != nil && s.x.backend.Server.Removed() {
			w.stats.Retiring++
		}
		if !s.reading.armed(waitKeepAlive) {
			continue
		}
		at := s.reading.at
		switch {
		case slices.Contains(removed, s.listener):
			at += lastCall - keepAlive
		case slices.Contains(restored, s.listener):
			at += now - lastCall
		case !s.leaving():
			at += now - keepAlive
		}
		if at != s.reading.at {
			w.wheel.arm(&s.reading, waitKeepAlive, max(at, w.now))
		}
	}
}
