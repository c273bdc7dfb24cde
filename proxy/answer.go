package proxy

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"ringroad/proxy/http1"
	"ringroad/proxy/upstream"
)

// fail takes an error of the exchange: it is logged, then another connection is
// tried, the client is answered, or, when its answer has begun already, it is
// cut off so that it cannot take what it got for complete.
func (x *exchange) fail(e Error) {
	s := x.session
	w := s.worker
	w.stats.failed(e.Source)
	server := x.server
	retried := e.Retryable && !x.began && x.retry(&e)
	w.report(x, server, &e, retried)
	if retried {
		return
	}
	x.hangUp()
	if e.Status != 0 && !x.began {
		x.answer(e.Status)
		return
	}
	if !x.began {
		x.status = statusClientGone
	}
	x.log()
	s.abandon()
}

// refuse answers a request whose head is malformed.
func (x *exchange) refuse(bad *http1.Error) {
	x.session.state = exchanging
	x.fail(Error{Source: Client, Phase: PhaseHead, Status: bad.Status, Err: bad})
}

// answer makes an error page the response. The backend is gone by now.
func (x *exchange) answer(status int) {
	s := x.session
	w := s.worker
	f := &x.response
	w.buffers.drop(&x.request.out)
	if x.hasHead {
		x.finishBody()
	}
	// The connection can go on when the request was read to its end and the
	// trouble was not the client's.
	x.keepAlive = x.keepAlive && x.request.complete && !w.draining &&
		(status >= http.StatusInternalServerError || status == http.StatusNotFound)
	x.began, x.status = true, status
	minor := uint8(1)
	if x.hasHead {
		minor = x.req.Minor
	}
	f.space(w)
	before := f.out.w
	w.page = http1.PageOptions{
		Minor:     minor,
		KeepAlive: x.keepAlive,
		Head:      x.hasHead && x.req.MethodID == http1.MethodHead,
		Date:      w.date(),
	}
	f.out.grew(http1.AppendErrorPage(f.out.b[:f.out.w], status, &w.page))
	// All of it counts as head: the pages' bodies are short and of no interest.
	x.headBytes += f.out.w - before
	f.complete = true
	w.stats.Answers++
	w.stats.response(status)
}

// logPeriod is how often a line about failing exchanges is written for each
// source; the others in between are counted in the next one.
const logPeriod = time.Second

// logLimit keeps failing exchanges from flooding the log.
type logLimit struct {
	next       time.Duration
	suppressed int
}

// report logs e: what a client did wrong for those who debug, what a backend did
// wrong for everybody. server is the one it happened with, nil before there is one.
func (w *Worker) report(x *exchange, server *upstream.Server, e *Error, retried bool) {
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
	if l.suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", l.suppressed))
		l.suppressed = 0
	}
	attrs = append(attrs, slog.Any("error", e))
	w.log.LogAttrs(context.Background(), level, message, attrs...)
}
