package proxy

import (
	"context"
	"log/slog"
	"time"

	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// logPeriod is how often a line about failing exchanges is written for each
// source; the others in between are counted in the next one.
const logPeriod = time.Second

// logLimit keeps failing exchanges from flooding the log.
type logLimit struct {
	next       time.Duration
	suppressed int
}

// amounts is how far an exchange had come, in bytes. Those of the backend are of
// the present attempt.
type amounts struct {
	fromClient, toBackend, fromBackend, toClient uint64

	request, response int // in the buffers, serialised and not yet written
}

func (x *exchange) amounts() amounts {
	return amounts{
		fromClient: x.requestBytes(), toBackend: x.toBackend, fromBackend: x.fromBackend, toClient: x.written,
		request: x.request.out.len(), response: x.response.out.len(),
	}
}

// requestBytes is what has come of the request: its head and the payload of its
// body.
func (x *exchange) requestBytes() uint64 {
	if !x.hasHead {
		return uint64(x.session.in.len())
	}
	return uint64(x.req.HeadBytes) + uint64(x.request.body.Received())
}

// report logs e: what a client did wrong for those who debug, what a backend did
// wrong for everybody. server is the one it happened with, nil before there is one,
// and a what had been moved until then: a retry has changed both by now.
func (w *Worker) report(x *exchange, server *upstream.Server, e *Error, a *amounts, retried bool) {
	level := slog.LevelWarn
	switch {
	case e.Source == Client:
		level = slog.LevelDebug
	case retried && e.Phase != PhaseConnect:
		level = slog.LevelDebug // a pooled connection that had just been closed is routine
	case e.Source == Internal:
		level = slog.LevelError
	}
	if !w.log.Enabled(context.Background(), level) {
		return
	}
	l := &w.logged[e.Source]
	if w.now < l.next {
		l.suppressed++
		return
	}
	l.next = w.now + logPeriod
	message := "exchange failed"
	attrs := []slog.Attr{slog.String("client", x.session.clientEnd().String())}
	if server != nil {
		attrs = append(attrs, slog.String("upstream", server.Group.Name), slog.String("backend", server.Addr.String()))
	}
	if retried {
		message = "attempt failed, trying another connection"
	} else {
		attrs = append(attrs, slog.Int("status", e.Status))
	}
	attrs = append(attrs, slog.String("source", e.Source.String()), slog.String("phase", e.Phase.String()))
	if buffer := e.Phase.buffer(); buffer != "" {
		attrs = append(attrs, slog.String("buffer", buffer))
	}
	switch err := e.Err.(type) {
	case *timeoutError:
		attrs = append(attrs, slog.Duration("timeout", x.limit(err.wait)))
	case *http1.Error:
		attrs = append(attrs, slog.Int("offset", err.Offset), slog.String("rule", err.Kind.Section()))
	}
	attrs = append(attrs,
		slog.Duration("elapsed", w.now-x.times.begun),
		slog.Group("bytes",
			slog.Uint64("from_client", a.fromClient), slog.Uint64("to_backend", a.toBackend),
			slog.Uint64("from_backend", a.fromBackend), slog.Uint64("to_client", a.toClient)),
		slog.Group("buffered", slog.Int("request", a.request), slog.Int("response", a.response)))
	if l.suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", l.suppressed))
		l.suppressed = 0
	}
	attrs = append(attrs, slog.Any("error", e.Err))
	w.log.LogAttrs(context.Background(), level, message, attrs...)
}
