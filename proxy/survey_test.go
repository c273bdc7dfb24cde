package proxy

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
)

// survey makes a query and waits for what it finds.
func (r *rig) survey(q Query) *Survey {
	r.t.Helper()
	if err := q.Check(); err != nil {
		r.t.Fatal(err)
	}
	found := make(chan *Survey, 1)
	r.worker.Post(func() { r.worker.Survey(q, func(v *Survey) { found <- v }) })
	select {
	case v := <-found:
		q.Order.Sort(v.Connections)
		return v
	case <-time.After(patience):
		r.t.Fatal("the survey does not end")
		return nil
	}
}

// TestSurveyTellsWhatEachConnectionIsAbout brings connections into every state and
// looks at them.
func TestSurveyTellsWhatEachConnectionIsAbout(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		c.Listeners[0].Upgrade = []string{"websocket"}
		c.Listeners[0].Routes[0].Path = "/"
		c.Listeners = append(c.Listeners, config.Listener{
			Address: netip.MustParseAddrPort("0.0.0.0:81"), Backlog: 8, ProxyProtocol: true, Routes: []config.Route{{Upstream: "app"}},
		})
	})
	release := make(chan struct{})
	defer close(release) // before the rig waits for its backends
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			switch head := readHead(in); {
			case head == "":
				return
			case strings.Contains(head, "/relay"):
				say(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
				pour(c, 100_000_000)
			case strings.Contains(head, "PUT /send"):
				<-release
			case strings.Contains(head, "/tunnel"):
				say(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
				<-release
			case strings.Contains(head, "/wait"):
				<-release
			default:
				say(c, ok)
			}
		}
	})
	requests := map[ConnectionState]string{
		StateIdle:   get("/idle"),
		StateHead:   "GET /head?secret HTTP/1.1\r\nHost: a\r\nAuthorization: secret",
		StateWait:   "POST /wait%20%2f;p?token=secret HTTP/1.1\r\nHost: a.example:80\r\nContent-Length: 6\r\nCookie: secret\r\n\r\nsecret",
		StateSend:   "PUT /send HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nsec",
		StateRelay:  get("http://h/relay" + strings.Repeat("x", 200) + "?secret"),
		StateTunnel: "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
	}
	// The backend connection of the first is pooled afterwards, and used by the second.
	order := []ConnectionState{StateIdle, StateWait, StateHead, StateSend, StateRelay, StateTunnel, StateHeader, StateClosing}
	ports := map[ConnectionState]netip.AddrPort{}
	for i, state := range order {
		var c *raw
		switch state {
		case StateHeader:
			c = r.dialTo("10.1.0.1:81")
		case StateClosing:
			c = r.dial()
			c.send(strings.Replace(get("/"), "HTTP/1.1", "HTTP/9.9", 1)) // refused, and we do not close
		default:
			c = r.dial()
			c.send(requests[state])
		}
		ports[state] = netip.MustParseAddrPort(c.LocalAddr().String())
		r.until(fmt.Sprintf("a connection is in the state %q", state), func() bool {
			v := r.survey(Query{Limit: MaxConnections, Order: ByAge})
			if len(v.Connections) != i+1 || v.Open != i+1 || v.Matching != i+1 {
				return false
			}
			k := v.Connections[i]
			// Idle connections have had their request; the relay has filled every buffer before the client, which does not read.
			return k.State == state && (state != StateIdle || k.Requests == 1) &&
				(state != StateRelay || k.TCP.Sent > 100_000 && k.TCP.PeerWindow == 0 && k.Held > 0)
		})
	}
	v := r.survey(Query{Limit: MaxConnections, Order: ByAge})
	if text := fmt.Sprintf("%+v", describeAll(v)); strings.Contains(text, "secret") {
		t.Errorf("a secret is in %s", text)
	}
	seen := map[ConnectionState]*Connection{}
	for i, k := range v.Connections {
		seen[k.State] = k
		if k.Number != uint64(i+1) || k.Client != ports[k.State] || k.TCP.Remote != k.Client || k.TCP.State != "ESTABLISHED" && k.State != StateClosing {
			t.Errorf("%d: %+v", i, k)
		}
		if k.InState < 0 || k.InState > k.Age || k.Age > patience {
			t.Errorf("%q: for %v, open for %v", k.State, k.InState, k.Age)
		}
		if hasBackend := slices.Contains([]ConnectionState{StateWait, StateSend, StateRelay, StateTunnel}, k.State); (k.Backend != nil) != hasBackend || (k.Request != nil) != hasBackend {
			if k.State != StateClosing {
				t.Errorf("%q: request %+v, backend %+v", k.State, k.Request, k.Backend)
			}
		}
	}
	if len(seen) != len(order) {
		t.Fatalf("%d states", len(seen))
	}
	wait := seen[StateWait]
	if q := wait.Request; q.Method != "POST" || q.Path != "/wait%20%2f;p" || q.Host != "a.example:80" || q.Attempts != 1 || q.Status != 0 || q.ResponseBytes != 0 || q.RequestBytes < 100 {
		t.Errorf("request: %+v", q)
	}
	if b := wait.Backend; !b.Pooled || b.Requests != 2 || b.Upstream != "app" || b.Server != netip.MustParseAddrPort("10.2.0.2:8080") ||
		b.TCP.Remote != b.Server || b.TCP.State != "ESTABLISHED" || b.TCP.BytesWritten < 100 || seen[StateSend].Backend.Pooled {
		t.Errorf("backend: %+v", b)
	}
	relay := seen[StateRelay]
	if q := relay.Request; q.Status != 200 || q.ResponseBytes < 100_000 || len(q.Path) != maxPathBytes+len("...") || !strings.HasPrefix(q.Path, "/relayxxx") || q.Host != "h" {
		t.Errorf("request: %+v", q)
	}
	if relay.TCP.Sent < 100_000 || relay.Held == 0 || relay.Backend.TCP.BytesRead < 100_000 {
		t.Errorf("buffers of a client that does not read: %+v, backend %+v", relay, relay.Backend)
	}

	// Other orders, fewer, and a filter.
	if v := r.survey(Query{Limit: 1, Order: ByBuffer}); len(v.Connections) != 1 || v.Connections[0].State != StateRelay || v.Open != len(order) {
		t.Errorf("by buffer: %+v", v)
	}
	if v := r.survey(Query{Limit: 2, Order: ByRequest}); len(v.Connections) != 2 || v.Connections[0].State != StateWait || v.Connections[1].State != StateHead {
		t.Errorf("by request: %v", describeAll(v))
	}
	for _, order := range Orders {
		v := r.survey(Query{Limit: 3, Order: order, Client: netip.MustParsePrefix("10.1.0.0/24")})
		if len(v.Connections) != 3 || v.Matching != 8 || !slices.IsSortedFunc(v.Connections, order.compare) {
			t.Errorf("by %s: %v", order, describeAll(v))
		}
	}
	if v := r.survey(Query{Limit: 3, Order: ByRTT, Client: netip.MustParsePrefix("10.1.0.3/32")}); len(v.Connections) != 0 || v.Matching != 0 || v.Open != len(order) {
		t.Errorf("of another client: %+v", v)
	}
}

// describeAll is all that a survey tells, as text.
func describeAll(v *Survey) (list []string) {
	for _, k := range v.Connections {
		text := fmt.Sprintf("%+v", *k)
		if k.Request != nil {
			text += fmt.Sprintf(" %+v", *k.Request)
		}
		list = append(list, text)
	}
	return list
}

// TestSurveyVisitsAPartInATurn has a thousand sessions, of which some end and others
// come while they are looked at: each turn visits so many at most, none is visited
// twice, and none that stays is left out.
func TestSurveyVisitsAPartInATurn(t *testing.T) {
	r := newRig(t, nil)
	const first = 5*surveyVisits + 7
	conns := make([]net.Conn, 0, first)
	for range first {
		c, err := r.Client.Dial(front)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	r.await("all are open", func(s *Stats) bool { return s.ClientsActive == first })
	if v := r.survey(Query{Limit: 10, Order: ByRTT}); v.Turns != 6 || v.Open != first || len(v.Connections) != 10 {
		t.Errorf("%d connections in %d turns, want %d in 6", v.Open, v.Turns, first)
	}
	// Turn by turn. The loop is ours meanwhile.
	r.on(func() {
		w := r.worker
		var found *Survey
		w.Survey(Query{Limit: MaxConnections, Order: ByAge}, func(v *Survey) { found = v })
		v := w.surveys[0]
		step := func(visits int) {
			t.Helper()
			before := v.Open
			w.survey()
			if n := v.Open - before; n != visits || n > surveyVisits {
				t.Errorf("%d visits in a turn, want %d", n, visits)
			}
		}
		step(surveyVisits)
		v.next.close()          // the next one ends,
		v.next.next.close()     // another one further on,
		w.sessions.next.close() // and one that was visited
		step(surveyVisits)
		late := w.takeSession()
		*late = session{peer: peer{conn: w.sessions.next.conn}, worker: w, listener: w.listeners[0], number: w.stats.ClientsAccepted + 1}
		late.prev, late.next = w.sessions.prev, &w.sessions // one comes
		late.prev.next, late.next.prev = late, late
		for range 3 {
			step(surveyVisits)
		}
		step(7 - 2)
		late.prev.next, late.next.prev = late.next, late.prev
		if found == nil || len(w.surveys) != 0 {
			t.Fatalf("not at the end: %+v", v.Survey)
		}
		numbers := map[uint64]bool{}
		ByAge.Sort(found.Connections)
		for i, k := range found.Connections {
			numbers[k.Number] = true
			if i > 0 && k.Number <= found.Connections[i-1].Number {
				t.Errorf("number %d behind %d", k.Number, found.Connections[i-1].Number)
			}
		}
		if len(numbers) != first-2 || numbers[surveyVisits+1] || numbers[surveyVisits+3] || !numbers[1] {
			t.Errorf("%d different connections, want %d", len(numbers), first-2)
		}
		// Samples go round in the same list.
		for range 2 * first / sampleSize {
			w.sample()
			if w.sampled == nil || w.sampled.state == ended {
				t.Fatal("the sample is at a session that has ended")
			}
			if w.sampled != &w.sessions {
				w.sampled.close()
			}
		}
	})
	for _, c := range conns {
		c.Close()
	}
	r.await("all are closed", func(s *Stats) bool { return s.ClientsActive == 0 })
	if v := r.survey(Query{Limit: 10, Order: ByRTT}); v.Open != 0 || v.Turns != 1 || len(v.Connections) != 0 {
		t.Errorf("without connections: %+v", v)
	}
}

func TestQueriesAreChecked(t *testing.T) {
	for _, q := range []Query{{}, {Limit: MaxConnections + 1, Order: ByAge}, {Limit: 1, Order: "size"}, {Limit: -1, Order: ByAge}} {
		if err := q.Check(); err == nil {
			t.Errorf("%+v is taken", q)
		}
	}
}

// BenchmarkSurvey is one visit, of a connection that is not kept.
func BenchmarkSurvey(b *testing.B) {
	k := newKeepAlive(b, plainRequest, plainResponse, nil)
	k.exchange(b)
	b.ReportAllocs()
	k.r.on(func() {
		s := k.r.worker.sessions.next
		v := &survey{Query: Query{Limit: 1, Order: ByAge}}
		v.visit(s)
		v.Connections[0].Age = time.Hour
		for b.Loop() {
			v.visit(s)
		}
	})
}
