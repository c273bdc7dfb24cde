package proxy

import (
	"net/http"

	"ringroad/proxy/http1"
)

// fail takes an error of the exchange: it is logged, then another connection is
// tried, the client is answered, or, when its answer has begun already, it is
// cut off so that it cannot take what it got for complete.
func (x *exchange) fail(e Error) {
	s := x.session
	w := s.worker
	w.stats.failed(e.Source)
	server, amounts := x.server, x.amounts()
	retried := e.Retryable && !x.began && x.retry(&e)
	w.report(x, server, &e, &amounts, retried)
	if x.follower != nil && !retried {
		x.follower.Step(Step{Kind: StepFailed, Err: e.Err})
	}
	if retried {
		return
	}
	x.failure = e
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
	if x.session.worker.hooks != nil {
		x.follow()
	}
	x.fail(Error{Source: Client, Phase: PhaseHead, Status: bad.Status, Err: bad})
}

// answer makes an error page the response. The backend is gone by now.
func (x *exchange) answer(status int) {
	w := x.session.worker
	w.lines = w.lines[:0]
	// The connection can go on when the trouble was not the client's.
	x.reply(status, nil, status >= http.StatusInternalServerError || status == http.StatusNotFound)
}

// reply makes an answer of our own the response. page is its body, nil for that of
// the status. Worker.lines holds the fields that it has besides those of its route.
// keepAlive permits that the connection goes on, if the request was read to its end.
func (x *exchange) reply(status int, page *errorPage, keepAlive bool) {
	s := x.session
	w := s.worker
	f := &x.response
	w.buffers.drop(&x.request.out)
	if x.hasHead {
		x.finishBody()
	}
	x.keepAlive = x.keepAlive && x.request.complete && !s.last() && keepAlive
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
	if page == nil {
		page = s.listener.pages.of(status)
	}
	if page != nil {
		w.page.Body, w.page.Type = page.body, page.kind
	}
	if x.route != nil {
		w.lines = x.expand(w.lines, x.route.response)
		w.page.Remove = x.route.remove
	}
	w.page.Add = w.lines
	f.out.grew(http1.AppendErrorPage(f.out.b[:f.out.w], status, &w.page))
	// Built-in pages count as head: they are short and of no interest.
	x.headBytes += f.out.w - before
	if !w.page.Head && status != http.StatusNoContent && status != http.StatusNotModified {
		x.headBytes -= len(w.page.Body)
	}
	f.complete = true
	if x.follower != nil {
		x.follower.Step(Step{Kind: StepAnswered, Status: status, Bytes: f.out.w - before})
	}
	w.stats.Answers++
	w.stats.response(status)
}
