package conformance

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringroad/proxy"
	"ringroad/proxy/config"
	"ringroad/stack"
	"ringroad/stack/stacktest"
)

// outcome is what became of the bytes that a client sent on one connection before it
// shut down its sending side.
type outcome struct {
	whole   []string // requests that the backend got whole, with all their fields
	begun   []string // heads of requests of which the backend did not get the whole body
	status  int      // of the own error behind them; 0: none
	waiting bool     // the worker wanted more bytes
	open    bool     // the connection was left open for another request
}

func (o outcome) String() string {
	return fmt.Sprintf("whole %q, begun %q, own error %d, waiting %t, open %t", o.whole, o.begun, o.status, o.waiting, o.open)
}

// bench is a rig with a witness and a connection that stays open beside the trials.
type bench struct {
	*rig
	witness   *witness
	bystander *client
	answered  int // requests of the bystander
	serial    int // of good requests

	lost bool // a trial did not end
}

// newBench starts a worker that acknowledges at once, so that a client that sends byte by
// byte never waits for room in its initial window.
func newBench(t testing.TB) *bench {
	return newBenchOn(t, func(c *stack.Config) { c.TCP.AckDelay = -1 })
}

// newBenchOn is newBench on a stack of which configure, if not nil, may change the
// configuration.
func newBenchOn(t testing.TB, configure func(*stack.Config)) *bench {
	b := &bench{rig: newRigOn(t, stacktest.New(t, configure), func(c *config.Config) { c.Limits.KeepAliveRequests = 0 })} // for the bystander
	b.witness = b.rig.witness()
	b.bystander = b.dial()
	return b
}

// trial sends pieces on a new connection, each when the one before has been read, and checks the invariants of the package doc that hold for any bytes.
func (b *bench) trial(pieces []string) (o outcome, whole []*message) {
	t, w := b.t, b.witness
	t.Helper()
	base := b.idle(1)
	mark := w.mark()
	received, sent, heads := w.received.Load(), w.sent.Load(), w.heads.Load()
	c := b.dial()
	end := time.Now().Add(patience)
	settled := func(s *proxy.Stats) bool {
		return s.ClientsAccepted > base.ClientsAccepted &&
			s.ClientBytesIn-base.ClientBytesIn == c.sent && s.ClientBytesOut-base.ClientBytesOut == c.got.Load() &&
			s.BackendBytesOut-base.BackendBytesOut == w.received.Load()-received &&
			w.busy.Load() == 0 && s.BackendBytesIn-base.BackendBytesIn == w.sent.Load()-sent &&
			s.Requests-base.Requests <= w.heads.Load()-heads+s.Answers-base.Answers
	}
	for _, p := range pieces {
		if c.hasEnded() {
			break
		}
		c.send(p)
		for s := b.stats(); s.ClientBytesIn-base.ClientBytesIn < c.sent && !c.hasEnded(); s = b.stats() {
			if time.Now().After(end) {
				t.Fatalf("the worker does not read: %+v", s)
			}
		}
	}
	// Until nothing moves any more: all bytes are where they go to, and the loop has
	// turned since.
	var last proxy.Stats
	for stable := 0; stable < 2 && !c.hasEnded(); {
		if w.mark().faults > mark.faults {
			_, _, faults := w.since(mark)
			t.Fatalf("not conformant: %q", faults)
		}
		s := b.stats()
		if settled(&s) && s == last {
			stable++
		} else {
			stable = 0
		}
		last = s
		if time.Now().After(end) {
			t.Fatalf("hangs: %+v\n%d bytes sent, %d received", s, c.sent, c.got.Load())
		}
	}
	before, _, _ := c.answers()
	closing := len(before) > 0 && before[len(before)-1].get("Connection") == "close"
	if closing {
		c.waitEnd()
	}
	endedBefore := c.hasEnded()
	c.finish()
	c.waitEnd()
	c.close()
	s := b.idle(1)

	answers, rest, bad := c.answers()
	_, why := c.received()
	if len(rest) > 0 {
		t.Errorf("the client got %q, which is no response: %v", tail(rest, 1000), bad)
	}
	o.waiting = !endedBefore && (why != nil || len(answers) > len(before))
	o.open = !endedBefore && !o.waiting
	if why != nil && !o.waiting {
		t.Errorf("the connection ended with %v", why)
	}
	var faults []string
	var begun []*message
	whole, begun, faults = w.since(mark)
	for _, f := range faults {
		t.Errorf("not conformant: %s", f)
	}
	for _, m := range whole {
		o.whole = append(o.whole, render(m))
	}
	o.status = b.checkAnswers(answers, whole, mark.whole)
	if o.status == 0 || o.waiting { // how far a refused request came depends on the delivery
		for _, m := range begun[len(whole):] {
			o.begun = append(o.begun, render(m))
		}
	}
	own := uint64(0)
	if o.status != 0 {
		own = 1
	}
	if s.Answers-base.Answers != own {
		t.Errorf("%d own errors, the client saw %d", s.Answers-base.Answers, own)
	}
	b.others()
	return o, whole
}

// checkAnswers checks that each whole request has its answer, in order, and returns
// the status of the own error behind them.
func (b *bench) checkAnswers(answers, whole []*message, first int) (status int) {
	b.t.Helper()
	n := 0
	for i, a := range answers {
		switch {
		case a.status == 100:
		case status != 0:
			b.t.Errorf("%d came behind the own error %d", a.status, status)
		case a.get(methodField) == "":
			status = a.status
			if status < 400 || i != len(answers)-1 || a.get("Connection") != "close" {
				b.t.Errorf("answer %d of %d is %d, Connection: %q", i+1, len(answers), a.status, a.get("Connection"))
			}
		case n == len(whole):
			b.t.Errorf("an answer too much: %+v", a)
		default:
			if m := whole[n]; a.get(methodField) != m.method || m.method != "HEAD" && a.body != strconv.Itoa(first+n) {
				b.t.Errorf("answer %q to %s, want %d to %s", a.body, a.get(methodField), first+n, m.method)
			}
			n++
		}
	}
	if n != len(whole) {
		b.t.Errorf("%d answers to %d requests that the backend got", n, len(whole))
	}
	return status
}

// others checks that an open connection and a fresh one get their own answers.
func (b *bench) others() {
	b.t.Helper()
	ask := func(c *client, n int) {
		b.t.Helper()
		mark := b.witness.mark()
		request, target := b.good()
		c.send(request)
		a := c.final(n)[n-1]
		whole, _, _ := b.witness.since(mark)
		if a.status != 200 || a.body != strconv.Itoa(mark.whole) || len(whole) != 1 || whole[0].target != target {
			b.t.Errorf("another client got %d %q for %s, want %d", a.status, a.body, target, mark.whole)
		}
	}
	b.answered++
	ask(b.bystander, b.answered)
	fresh := b.dial()
	ask(fresh, 1)
	fresh.close()
	<-fresh.ended
}

// good is a request that nothing is wrong with, with a target of its own.
func (b *bench) good() (request, target string) {
	b.serial++
	target = fmt.Sprintf("/good%d", b.serial)
	return "GET " + target + " HTTP/1.1\r\nHost: good.example\r\n\r\n", target
}

func render(m *message) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s", m.method, m.target)
	for _, f := range m.fields {
		fmt.Fprintf(&out, "|%s: %s", f.name, f.value)
	}
	fmt.Fprintf(&out, "|%q", m.body)
	for _, f := range m.trailers {
		fmt.Fprintf(&out, "|%s: %s", f.name, f.value)
	}
	return out.String()
}

// deliveries tries raw in every delivery, and returns the outcome, which must
// always be the same.
func (b *bench) deliveries(raw string) (outcome, []*message) {
	t := b.t
	t.Helper()
	want, whole := b.trial([]string{raw})
	same := func(how string, pieces []string) {
		t.Helper()
		if len(pieces) == 1 && pieces[0] == raw {
			return
		}
		if got, _ := b.trial(pieces); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v\nwhole: %v", how, got, want)
		}
	}
	same("byte by byte", bytewise(raw))
	same("split at line ends", cut(raw, lineEnds(raw)))
	seed := rand.New(rand.NewPCG(uint64(len(raw)), 1))
	for range 2 {
		var cuts []int
		for i := range len(raw) {
			if seed.IntN(20) == 0 {
				cuts = append(cuts, i)
			}
		}
		same(fmt.Sprintf("split at %v", cuts), cut(raw, cuts))
	}

	request, target := b.good()
	behind, _ := b.trial([]string{request + raw})
	if len(behind.whole) == 0 || !strings.HasPrefix(behind.whole[0], "GET "+target+"|Host: good.example|") {
		t.Errorf("behind a good request: %v", behind)
	} else if behind.whole = behind.whole[1:]; !equal(behind, want) {
		t.Errorf("behind a good request: %v\nwhole: %v", behind, want)
	}

	request, target = b.good()
	front, _ := b.trial([]string{raw + request})
	if want.open && len(front.whole) > 0 {
		last := len(front.whole) - 1
		if !strings.HasPrefix(front.whole[last], "GET "+target+"|Host: good.example|") {
			t.Errorf("the request behind was not served: %v", front)
		}
		front.whole = front.whole[:last]
	}
	// What waits for more takes the good request for it.
	if !want.waiting && !equal(front, want) {
		t.Errorf("in front of a good request: %v\nwhole: %v", front, want)
	}
	return want, whole
}

// equal compares outcomes; no requests are no requests.
func equal(a, b outcome) bool {
	if len(a.whole) == 0 && len(b.whole) == 0 {
		a.whole, b.whole = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

// bytewise cuts every byte off; of what is long, only the first and the last of them.
func bytewise(raw string) (pieces []string) {
	const most = 400
	for i := range len(raw) {
		if i == most/2 && len(raw) > most {
			pieces = append(pieces, raw[i:len(raw)-most/2])
		}
		if i < most/2 || i >= len(raw)-most/2 {
			pieces = append(pieces, raw[i:i+1])
		}
	}
	return pieces
}

// lineEnds are the places in front of and behind every CR and LF.
func lineEnds(raw string) (cuts []int) {
	for i := range len(raw) {
		if raw[i] == '\r' || raw[i] == '\n' {
			cuts = append(cuts, i, i+1)
		}
	}
	return cuts
}

// cut cuts raw at the given places, which ascend.
func cut(raw string, cuts []int) (pieces []string) {
	at := 0
	for _, c := range cuts {
		if c > at && c < len(raw) {
			pieces = append(pieces, raw[at:c])
			at = c
		}
	}
	return append(pieces, raw[at:])
}

// class is what must become of a sample.
type class uint8

const (
	accept class = iota // relayed, with exactly one reading
	reject              // refused or closed; nothing whole of it reaches the backend
	either              // one or the other
	wait                // nothing whole reaches the backend before more bytes come
)

func (c class) String() string { return [...]string{"accept", "reject", "either", "wait"}[c] }

// sample is a client's bytes and what must become of them.
type sample struct {
	name   string
	raw    string
	class  class
	want   []string // "METHOD target body", as the backend must see them; accept and either
	status int      // of the refusal; 0: any. What was relayed in front of it is in want
	check  func(first *message) error
}

// judge compares an outcome with what must become of the sample.
func (s *sample) judge(t testing.TB, o outcome, whole []*message) {
	t.Helper()
	var got []string
	for _, m := range whole {
		got = append(got, m.method+" "+m.target+" "+m.body)
	}
	refused := !o.open && o.status != 0 && !o.waiting
	switch {
	case s.class == wait:
		if !o.waiting || len(got) > 0 {
			t.Errorf("want it to wait: %v", o)
		}
		return
	case s.class == reject || s.class == either && refused:
		if !refused || o.status < 400 || s.status != 0 && o.status != s.status {
			t.Errorf("want it refused (%d): %v", s.status, o)
		}
		if s.class == reject && !reflect.DeepEqual(got, s.want) {
			t.Errorf("the backend got %q, want %q in front of the refusal", got, s.want)
		}
		return
	}
	if o.status != 0 || o.waiting || !reflect.DeepEqual(got, s.want) {
		t.Errorf("the backend got %q, want %q: %v", got, s.want, o)
		return
	}
	if s.check != nil {
		if err := s.check(whole[0]); err != nil {
			t.Errorf("%v in %v", err, o)
		}
	}
}

// campaign tries all samples in every delivery.
func campaign(t *testing.T, samples []sample) {
	t.Helper()
	b, parent := newBench(t), t
	seen := map[string]bool{}
	for i := range samples {
		s := &samples[i]
		if seen[s.name] {
			t.Fatalf("two samples %s", s.name)
		}
		seen[s.name] = true
		t.Run(s.name, func(t *testing.T) {
			b.t = t
			defer func() { b.t = parent }()
			if b.lost {
				t.Fatal("not tried: the worker did not come to rest after an earlier sample")
			}
			b.lost = true
			o, whole := b.deliveries(s.raw)
			b.lost = false
			s.judge(t, o, whole)
			if t.Failed() {
				t.Logf("sample, %v: %q", s.class, s.raw)
			}
		})
	}
	b.bystander.close()
	b.idle(0)
}
