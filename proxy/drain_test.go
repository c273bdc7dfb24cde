package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ringroad/proxy/config"
)

func TestDrain(t *testing.T) {
	r := newRig(t, nil)
	finish := make(chan struct{})
	r.serve(8080, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			w.(http.Flusher).Flush()
			<-finish
		}
		say(w, "done")
	}))
	idle, busy, late := r.dial(), r.dial(), r.dial()
	idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	idle.expect("GET", 200, "done")
	busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	late.send("GET / HTTP/1.1\r\nHost: a\r\n")
	r.await("one exchange waits for its backend and one request is half there", func(s *Stats) bool { return s.ExchangesActive == 2 && s.Responses2xx == 2 })
	r.worker.Drain()
	idle.closed()
	if _, err := r.Client.Dial(front); err == nil {
		t.Error("a client can connect to a draining worker")
	}
	late.send("\r\n")
	if resp := late.expect("GET", 200, "done"); !resp.Close {
		t.Error("no Connection: close while draining")
	}
	late.closed()
	close(finish)
	busy.expect("GET", 200, "done")
	busy.closed()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatal("Run does not return after the last exchange")
	}
	if s := r.worker.stats; s.DrainsCutOff != 0 {
		t.Errorf("%d connections cut off", s.DrainsCutOff)
	}
}

func TestDrainIsCutOff(t *testing.T) {
	r := newRig(t, func(c *config.Config) { c.Timeouts.Drain = short })
	r.script(8080, func(n int, c net.Conn, in *bufio.Reader) { swallow(in) })
	c := r.dial()
	c.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	r.await("the exchange is under way", func(s *Stats) bool { return s.BackendBytesOut > 0 })
	r.worker.Drain()
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatal("Run does not return after timeouts.drain")
	}
	if s := r.worker.stats; s.DrainsCutOff != 1 {
		t.Errorf("%d connections cut off, want 1", s.DrainsCutOff)
	}
	if _, err := io.ReadAll(c.in); err == nil {
		t.Error("the client saw a clean end")
	}
}

// ended waits until Run has returned.
func (r *rig) ended() {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatal("Run does not return")
	}
}

// TestDrainAnswersWhatHasCome: requests in receive buffers, of which no event has
// been seen, and those that come right behind the beginning of the drain.
func TestDrainAnswersWhatHasCome(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	var clients [8]*raw
	for i := range clients {
		clients[i] = r.dial()
		clients[i].send(get("/"))
		clients[i].expect("GET", 200, "")
	}
	post := func(body string) string {
		return "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n" + body
	}
	thaw := r.freeze()
	for i, c := range clients[:4] {
		c.send(post(string(rune('0' + i))))
	}
	clients[0].send(post("x")) // a pipeline
	r.worker.Drain()
	thaw()
	r.on(func() {})
	for i, c := range clients[4:] {
		c.send(post(string(rune('4' + i))))
	}
	for i, c := range clients {
		resp := c.expect("POST", 200, string(rune('0'+i)))
		if i == 0 {
			resp = c.expect("POST", 200, "x")
		}
		if !resp.Close {
			t.Errorf("no Connection: close in answer %d", i)
		}
		c.closed()
	}
	r.ended()
	if s := r.worker.stats; s.ClientsAborted != 0 || s.DrainsCutOff != 0 || s.ErrorsClient != 0 {
		t.Errorf("%d aborted, %d cut off, %d errors of clients", s.ClientsAborted, s.DrainsCutOff, s.ErrorsClient)
	}
}

// TestDrainAwaitsHandshakes: a client that has seen our SYN-ACK is served, the next
// one refused.
func TestDrainAwaitsHandshakes(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	const flagSYN = 2
	var through atomic.Bool
	r.LoseFromClient(func(frame []byte) bool { return through.Load() || frame[flagsAt]&flagSYN != 0 })
	c := r.dial()
	r.on(func() {
		r.worker.drain()
		through.Store(true)
		c.send(get("/"))
	})
	if resp := c.expect("GET", 200, ""); !resp.Close {
		t.Error("no Connection: close while draining")
	}
	c.closed()
	r.ended()
}

// TestDrainUnderTraffic: every request that was sent is answered.
func TestDrainUnderTraffic(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	var clients sync.WaitGroup
	var answered atomic.Int64
	var refused atomic.Bool
	for range 4 {
		clients.Go(func() { // keep-alive, until told to close
			c, err := r.Client.Dial(front)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			for in := bufio.NewReader(c); ; {
				limit(c)
				say(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
				resp, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Error("kept alive:", err)
					return
				}
				if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "abc" {
					t.Errorf("kept alive: %q, %v", b, err)
					return
				}
				answered.Add(1)
				if resp.Close {
					return
				}
			}
		})
		clients.Go(func() { // a connection for each, until refused
			for {
				c, err := r.Client.Dial(front)
				if err != nil {
					refused.Store(true)
					return
				}
				limit(c)
				say(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
				b, err := io.ReadAll(c)
				c.Close()
				if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
					t.Errorf("closed: %q, %v", b, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	r.until("all are served", func() bool { return answered.Load() > 200 })
	r.worker.Drain()
	clients.Wait()
	r.ended()
	if !refused.Load() {
		t.Error("nobody was refused")
	}
	if s := r.worker.stats; s.ClientsAborted != 0 || s.DrainsCutOff != 0 || int64(s.Responses2xx) != answered.Load() {
		t.Errorf("%d aborted, %d cut off, %d responses of which %d were seen", s.ClientsAborted, s.DrainsCutOff, s.Responses2xx, answered.Load())
	}
}

// TestDrainEndsAReload: what was prepared is given up, and nothing else can be.
func TestDrainEndsAReload(t *testing.T) {
	r := newRig(t, nil)
	hold := r.dial()
	hold.send("GET")
	r.await("a request has begun", func(s *Stats) bool { return s.ExchangesActive == 1 })
	c := r.variant(func(c *config.Config) { c.Listeners = c.Listeners[:1] })
	r.on(func() {
		re, err := r.worker.Prepare(c, nil)
		if err != nil {
			t.Error(err)
			return
		}
		r.worker.drain()
		re.Commit()
		if _, err := r.worker.Prepare(c, nil); err == nil {
			t.Error("a draining worker prepares a reload")
		}
	})
	if _, err := r.Client.Dial(front); err == nil {
		t.Error("a client can connect to a draining worker")
	}
	hold.Close()
	r.ended()
	if n := r.worker.stats.Reloads; n != 0 {
		t.Errorf("%d reloads", n)
	}
}

// TestIdleTimeoutSeesWhatHasCome: a request whose event has not been seen when its
// connection has been idle for too long is answered.
func TestIdleTimeoutSeesWhatHasCome(t *testing.T) {
	r := newRig(t, nil)
	r.serve(8080, http.HandlerFunc(echo))
	c := r.dial()
	c.send(get("/"))
	c.expect("GET", 200, "")
	var n, fins atomic.Int64
	r.LoseFromClient(watch(&n, &fins))
	thaw := r.freeze()
	c.send(get("/"))
	r.until("the request is on the wire", func() bool { return n.Load() > 0 })
	r.worker.Post(func() {
		// Its frame was taken in this turn. Here netstack may run on another
		// processor; its event is there when it has.
		for end := time.Now().Add(patience); !r.Stack.Poller().Ready() && time.Now().Before(end); {
			runtime.Gosched()
		}
		r.worker.sessions.next.expired(waitKeepAlive)
	})
	thaw()
	if resp := c.expect("GET", 200, ""); resp.Close {
		t.Error("Connection: close")
	}
	r.on(func() { r.worker.sessions.next.expired(waitKeepAlive) })
	c.closed()
	if s := r.stats(); s.TimeoutsKeepAlive != 1 {
		t.Errorf("%d timeouts, want one", s.TimeoutsKeepAlive)
	}
}
