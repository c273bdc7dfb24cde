package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ringroad/proxy/config"
	"ringroad/proxy/upstream"
)

// entry is a line of the access log in JSON.
type entry struct {
	Time              time.Time `json:"time"`
	Client            string    `json:"client"`
	Listener          string    `json:"listener"`
	Method            *string   `json:"method"`
	Target            *string   `json:"target"`
	Version           *string   `json:"version"`
	Host              *string   `json:"host"`
	Referer           *string   `json:"referer"`
	UserAgent         *string   `json:"user_agent"`
	Status            int       `json:"status"`
	RequestBytes      int       `json:"request_bytes"`
	RequestBodyBytes  int       `json:"request_body_bytes"`
	ResponseBytes     int       `json:"response_bytes"`
	ResponseBodyBytes int       `json:"response_body_bytes"`
	Upstream          *string   `json:"upstream"`
	Server            *string   `json:"server"`
	Request           *float64  `json:"request_ms"`
	Queue             *float64  `json:"queue_ms"`
	Connect           *float64  `json:"connect_ms"`
	FirstByte         *float64  `json:"first_byte_ms"`
	Total             *float64  `json:"total_ms"`
	Reused            bool      `json:"reused"`
	Retries           int       `json:"retries"`
	Termination       string    `json:"termination"`
	Phase             *string   `json:"phase"`
	Error             *string   `json:"error"`
}

// entries stops the worker and returns the lines of its log.
func (r *rig) entries() (list []entry) {
	r.t.Helper()
	r.stop()
	for line := range strings.Lines(r.access.String()) {
		var e entry
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&e); err != nil {
			r.t.Fatalf("%v: %s", err, line)
		}
		var all map[string]any
		if _ = json.Unmarshal([]byte(line), &all); len(all) != 26 {
			r.t.Errorf("%d keys: %s", len(all), line)
		}
		list = append(list, e)
	}
	return list
}

func inJSON(c *config.Config) { c.Log.Format = config.JSON }

func text(p *string) string {
	if p == nil {
		return "null"
	}
	return *p
}

func TestJSONLines(t *testing.T) {
	r := newRig(t, func(c *config.Config) {
		inJSON(c)
		c.Listeners[0].Routes = []config.Route{
			{Path: "/silent", Upstream: "app", Timeouts: config.RouteTimeouts{BackendRead: 100 * time.Millisecond}},
			{Path: "/teapot", Return: &config.Return{Status: 418, Body: "short", Type: "text/plain"}},
			{Upstream: "app"},
		}
	})
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		for {
			req := readRequest(in)
			if req == nil {
				return
			}
			switch req.URL.Path {
			case "/silent":
				swallow(in)
				return
			case "/broken":
				say(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbro")
				return
			}
			say(c, ok)
		}
	})
	c := r.dial()
	c.send("GET /\x01 HTTP/1.1\r\n")
	c.expect("GET", 400, "")
	c = r.dial()
	c.send("GET /a?b HTTP/1.1\r\nHost: A.org:80\r\nReferer: http://r/\r\nUser-Agent: \xe9\"é\t\u2028x\r\n\r\n")
	c.expect("GET", 200, "ok")
	c.send("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
	c.expect("POST", 200, "ok")
	c.send("GET /teapot HTTP/1.1\r\nHost: a\r\n\r\n")
	c.response("GET")
	c.send("GET /silent HTTP/1.1\r\nHost: a\r\n\r\n")
	c.expect("GET", 504, "")
	c.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n")
	swallow(c.in)
	var sent uint64
	r.await("the others have ended", func(s *Stats) bool { sent = s.BackendBytesOut; return s.ExchangesActive == 0 })
	c = r.dial()
	c.send("GET /half HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
	r.await("the head of the request is at the backend", func(s *Stats) bool { return s.BackendBytesOut > sent })
	c.Close()
	r.await("it has ended", func(s *Stats) bool { return s.ExchangesActive == 0 })

	const none = -1
	want := []struct {
		target, agent, termination, phase string
		status                            int
		requestBytes, body, responseBody  int
		server                            bool
		connect, firstByte                bool
		reused                            bool
	}{
		{"null", "null", "client", "reading the request head", 400, none, 0, 0, false, false, false, false},
		{"/a?b", "\u00e9\"é\t\u2028x", "complete", "null", 200, none, 0, 2, true, true, true, false},
		{"/b", "null", "complete", "null", 200, len("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"), 5, 2, true, true, true, true},
		{"/teapot", "null", "complete", "null", 418, none, 0, 5, false, false, false, false},
		{"/silent", "null", "backend", "waiting for the response", 504, none, 0, 0, true, true, false, true},
		{"/broken", "null", "backend", "reading the response body", 200, none, 0, none, true, true, true, false},
		{"/half", "null", "client", "reading the request body", 400, none, 0, none, true, true, false, false},
	}
	got := r.entries()
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), r.access.String())
	}
	for i, w := range want {
		e := &got[i]
		if text(e.Target) != w.target || text(e.UserAgent) != w.agent || e.Termination != w.termination || text(e.Phase) != w.phase ||
			e.Status != w.status || e.RequestBodyBytes != w.body || w.responseBody != none && e.ResponseBodyBytes != w.responseBody || e.Reused != w.reused {
			t.Errorf("line %d: %+v\n%s", i, e, strings.Split(r.access.String(), "\n")[i])
		}
		if w.requestBytes != none && e.RequestBytes != w.requestBytes {
			t.Errorf("line %d: %d bytes of the request, want %d", i, e.RequestBytes, w.requestBytes)
		}
		if (e.Server != nil) != w.server || (e.Upstream != nil) != w.server || (e.Connect != nil) != w.connect || (e.FirstByte != nil) != w.firstByte || e.Total == nil {
			t.Errorf("line %d: server %s, connect %v, first byte %v", i, text(e.Server), e.Connect, e.FirstByte)
		}
		if !strings.HasPrefix(e.Client, "10.1.0.2:") || e.Listener != "0.0.0.0:80" || time.Since(e.Time) > time.Hour || (e.Error != nil) != (e.Termination != "complete") {
			t.Errorf("line %d: client %s, listener %s, time %s, error %s", i, e.Client, e.Listener, e.Time, text(e.Error))
		}
	}
	if e := &got[4]; *e.Total < 100 || !strings.Contains(*e.Error, "timeouts.backend_read") {
		t.Errorf("after a timeout of 100 ms: %v ms, %s", *e.Total, *e.Error)
	}
	if e := &got[1]; *e.Host != "A.org:80" || *e.Referer != "http://r/" || *e.Method != "GET" || *e.Version != "HTTP/1.1" || *e.Server != "10.2.0.2:8080" || *e.Upstream != "app" {
		t.Errorf("%+v", e)
	}
}

// TestJSONTimes: the parts are where the time was spent, and sum up.
func TestJSONTimes(t *testing.T) {
	const pause = 50 * time.Millisecond
	r := newRig(t, func(c *config.Config) {
		inJSON(c)
		c.Upstreams[0].Servers = append(c.Upstreams[0].Servers[:0:0], netipPort(c.Upstreams[0].Servers[0], silentPort), c.Upstreams[0].Servers[0])
		c.Timeouts.Connect = 10 * pause // the other server has to be quicker
	})
	r.silence()
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(pause) // the slow backend
		say(w, "x")
		w.(http.Flusher).Flush()
		time.Sleep(pause)
	}))
	c := r.dial()
	c.send("GET / HTTP/1.1\r\n")
	r.await("the request has begun", func(s *Stats) bool { return s.ExchangesActive == 1 })
	time.Sleep(pause) // the slow client
	c.send("Host: a\r\n\r\n")
	c.expect("GET", 200, "x")
	got := r.entries()
	if len(got) != 1 {
		t.Fatalf("%d lines", len(got))
	}
	e := got[0]
	// A turn of the loop has one time, so each may be a little short.
	const ms = float64(pause/time.Millisecond) / 2
	if *e.Request < ms || *e.Queue < 10*ms || *e.FirstByte < ms || *e.Total < *e.Request+*e.Queue+*e.Connect+*e.FirstByte+ms || e.Retries != 1 {
		t.Errorf("%s", r.access.String())
	}
	if line := r.access.String(); !regexp.MustCompile(`"total_ms":\d+\.\d{3},`).MatchString(line) || !regexp.MustCompile(`"time":"[-0-9T:]{19}\.\d{6}(Z|[+-]\d\d:\d\d)"`).MatchString(line) {
		t.Errorf("%s", line)
	}
}

func TestAppendMillis(t *testing.T) {
	for _, tt := range []struct {
		from, to time.Duration
		want     string
	}{
		{1, 1, "0.000"}, {1, 1 + 999, "0.000"}, {1, 1 + 1000, "0.001"}, {1, 1 + 1234567890, "1234.567"},
		{1, 1 + time.Hour, "3600000.000"}, {2, 1, "0.000"}, {0, 1, "null"}, {1, 0, "null"},
	} {
		if got := string(appendMillis(nil, tt.from, tt.to)); got != tt.want {
			t.Errorf("%d to %d: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}

// FuzzJSONString: every string is one line of valid JSON without anything that a
// terminal acts on, and UTF-8 comes back as it was.
func FuzzJSONString(f *testing.F) {
	for _, s := range []string{"", "a", `"\`, "\x00\x1f\x7f\x80\xff", "é\u0085\u2028\u2029\ufeff\U0001f600", "\xc3", "\xed\xa0\x80", "\xf0\x9f\x98", "<script>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := appendJSONString([]byte("x"), in)[1:]
		var back string
		if err := json.Unmarshal(out, &back); err != nil {
			t.Fatalf("%q: %v: %q", in, err, out)
		}
		if !utf8.Valid(out) || bytes.ContainsFunc(out, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' }) {
			t.Fatalf("%q became %q", in, out)
		}
		want := string(in)
		if !utf8.Valid(in) {
			var b strings.Builder
			for i := 0; i < len(in); {
				r, n := utf8.DecodeRune(in[i:])
				if n == 1 && r == utf8.RuneError {
					r = rune(in[i])
				}
				b.WriteRune(r)
				i += n
			}
			want = b.String()
		}
		if back != want {
			t.Fatalf("%q came back as %q", in, back)
		}
	})
}

func TestJSONLineOfATunnel(t *testing.T) {
	r := newRig(t, func(c *config.Config) { tunnels(c); inJSON(c) })
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) {
		readHead(in)
		say(c, switching+"hello")
		swallow(in)
	})
	c := r.dial()
	c.send(upgradeRequest)
	c.readHeadOf("101")
	c.read("hello")
	c.send("up")
	closeWrite(t, c.Conn)
	swallow(c.in)
	r.await("the tunnel has ended", func(s *Stats) bool { return s.ExchangesActive == 0 })
	got := r.entries()
	if len(got) != 1 || got[0].Status != 101 || got[0].RequestBodyBytes != 2 || got[0].ResponseBodyBytes != 5 ||
		got[0].RequestBytes != len(upgradeRequest)+2 || got[0].Termination != "complete" || *got[0].Target != "/chat" {
		t.Errorf("%s", r.access.String())
	}
}

// BenchmarkAccessLine is what a request costs more when it is logged.
func BenchmarkAccessLine(b *testing.B) {
	head := []byte(plainRequest)
	s := &session{client: netip.MustParseAddrPort("192.0.2.1:12345"), listener: &listener{routing: routing{config: &config.Listener{Address: netip.MustParseAddrPort("0.0.0.0:80")}}}}
	s.in = buffer{b: head, r: len(head), w: len(head)}
	x := &exchange{}
	x.session, x.hasHead, x.floor, x.status, x.written, x.headBytes = s, true, len(head), 200, 300, 100
	x.server = &upstream.Server{Addr: netip.MustParseAddrPort("10.2.0.2:8080"), Group: &upstream.Group{Name: "app"}}
	x.times = times{1e6, 2e6, 3e6, 4e6, 4e6, 5e6}
	x.req.Reset(nil)
	if done, bad := x.req.Parse(head); !done {
		b.Fatal(bad)
	}
	for _, format := range []config.LogFormat{config.Combined, config.JSON} {
		b.Run(string(format), func(b *testing.B) {
			a := &accessLog{json: format == config.JSON, current: make([]byte, 0, logBufferBytes)}
			b.ReportAllocs()
			for b.Loop() {
				a.line(x, 6e6, time.Unix(1e9, 123456789))
				a.current = a.current[:0]
			}
		})
	}
}
