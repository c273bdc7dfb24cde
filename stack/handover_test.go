package stack_test

import (
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"ringroad/stack"
	"ringroad/stack/stacktest"
)

func TestClientFlowMovesToAnotherWorker(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		queue   func(frame int) int // of the frames behind the SYN
		loss    float64
	}{
		{"behind the handshake", 2, func(int) int { return 1 }, 0},
		{"in the middle", 2, func(n int) int { return min(n/20, 1) }, 0},
		{"to the last of three", 3, func(n int) int { return min(n/10, 2) }, 0},
		{"to and fro, second queues too, with loss", 2, func(n int) int { return n / 30 % 4 }, 0.01},
		{"round three, with loss", 3, func(n int) int { return n / 50 % 3 }, 0.01},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := startWorkers(t, c.workers, 128, serveEcho)
			idle := ws.tcp().Endpoints
			var frames atomic.Int32
			resets := watchClient(ws[0].Network)
			ws[0].SteerFromClient(func(f []byte) int {
				if frameFlags(f)&header.TCPFlagSyn != 0 {
					frames.Store(0)
					return 0
				}
				return c.queue(int(frames.Add(1)))
			})
			r := rand.New(rand.NewPCG(5, 1))
			var finLost bool // the first of each connection
			ws[0].LoseFromClient(func(f []byte) bool {
				resets.see(fromPeer, f)
				switch flags := frameFlags(f); {
				case flags&header.TCPFlagSyn != 0:
					finLost = false
				case flags&header.TCPFlagFin != 0 && !finLost:
					finLost = true
					return false
				}
				return r.Float64() >= c.loss
			})
			for _, addr := range bothVersions {
				conn, err := ws[0].Client.Dial(addr)
				if err != nil {
					t.Fatal(err)
				}
				roundTrip(t, conn, payload(200_000))
				conn.Close()
			}
			ws[0].eventually("closed", func() bool { return ws[0].Stack.TCPStats().Endpoints*uint64(len(ws)) <= idle })
			if n := ws[0].passiveOpens(); n != 2 {
				t.Errorf("worker 0 accepted %d connections, want both", n)
			}
			if n := resets.resets(); n != 0 {
				t.Errorf("%d resets were sent", n)
			}
			if ws.handedFrames() == 0 {
				t.Error("nothing was handed over")
			}
		})
	}
}

func TestBackendRepliesAtTheWrongWorker(t *testing.T) {
	for _, c := range []struct {
		name    string
		workers int
		queue   func(f []byte) int
	}{
		{"always the other", 2, func([]byte) int { return 1 }},
		{"by port", 3, func(f []byte) int { return int(frameTCP(f).DestinationPort()) % 6 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := startWorkers(t, c.workers, 128, serveCalls)
			for _, addr := range []string{"10.2.0.2:8080", "[fd00:2::2]:8080"} {
				echoBackend(t, ws[0].Backend, addr)
			}
			ws[0].SteerFromBackend(c.queue)
			var resets resetCounter
			ws[0].LoseToBackend(func(f []byte) bool { resets.see(toPeer, f); return true })
			ws[0].LoseFromBackend(func(f []byte) bool { resets.see(fromPeer, f); return true })
			body := payload(300_000)
			calls := map[*caller]*loop{}
			for i := range 8 {
				w := ws[i%len(ws)]
				calls[w.call([]string{"10.2.0.2:8080", "[fd00:2::2]:8080"}[i/4], body)] = w
			}
			for c, w := range calls {
				w.eventually("the echo ends", func() bool { return c.err != nil })
				if c.err != io.EOF || string(c.got) != string(body) {
					t.Errorf("got %d of %d bytes, %v", len(c.got), len(body), c.err)
				}
			}
			if n := resets.resets(); n != 0 {
				t.Errorf("%d resets were sent", n)
			}
			var owner, walk uint64
			for _, w := range ws {
				st := w.handover()
				owner, walk = owner+st.Owner, walk+st.Walk
			}
			if owner == 0 || walk != 0 {
				t.Errorf("%d frames were handed to the owner of the port, %d walked", owner, walk)
			}
		})
	}
}

func TestUnknownFlowGoesRoundAndIsAnsweredOnce(t *testing.T) {
	const syn, ack, rst = header.TCPFlagSyn, header.TCPFlagAck, header.TCPFlagRst
	for _, c := range []struct {
		name   string
		port   uint16
		flags  header.TCPFlags
		data   string
		resets int32
		walk   uint64 // frames passed on by each of the workers
		owner  uint64 // frames handed to the owner
	}{
		{"ACK for a listener", 80, ack, "", 1, 1, 0},
		{"data for a listener", 80, ack, string(payload(900)), 1, 1, 0},
		{"ACK for nobody", 81, ack, "", 1, 1, 0},
		{"SYN-ACK for a listener", 80, syn | ack, "", 1, 1, 0},
		{"reset", 80, rst, "", 0, 1, 0},
		{"SYN for nobody", 81, syn, "", 1, 0, 0},
		{"backend port of another", 29000, ack, "", 1, 0, 1},
		{"backend port of our own", 24000, ack, "", 1, 0, 0},
		{"remainder of the backend ports", 29999, ack, "", 1, 1, 0},
	} {
		for _, v6 := range []bool{false, true} {
			ws := startWorkers(t, 3, 128, serveEcho)
			var resets atomic.Int32
			ws[0].LoseToClient(func(f []byte) bool {
				if frameFlags(f)&rst != 0 {
					resets.Add(1)
				}
				return false
			})
			ws[0].InjectAt(0, 1, rawTCP(v6, 5000, c.port, 7, 8, c.flags, c.data))
			ws[1].eventually(c.name+": answered", func() bool {
				st := ws[1].Stack.HandoverStats()
				return st.WalkEnded == c.walk && st.Owner == c.owner && resets.Load() == c.resets
			})
			for i, w := range ws {
				if st := w.handover(); st.Walk != c.walk || st.Invalid != 0 {
					t.Errorf("%s: worker %d: %+v", c.name, i, st)
				}
			}
			if n := resets.Load(); n != c.resets {
				t.Errorf("%s: %d resets", c.name, n)
			}
		}
	}
}

func TestICMPErrorReachesTheWorkerOfTheFlow(t *testing.T) {
	const mtu = 1300
	for _, addr := range bothVersions {
		ws := startWorkers(t, 3, 128, serveEcho)
		var seen watcher
		ws[0].LoseToClient(seen.see)
		ws[0].SteerFromClient(func([]byte) int { return 2 })
		c, err := ws[0].Client.Dial(addr)
		if err != nil {
			t.Fatal(err)
		}
		write := func() {
			c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
			go c.Write(payload(20_000))                     //nolint:errcheck // shows in Read
		}
		read := func() {
			if _, err := io.ReadFull(c, make([]byte, 20_000)); err != nil {
				t.Fatal(err)
			}
		}
		write()
		read()
		seen.take()
		seen.lose.Store(true) // an error about what is acknowledged counts for nothing
		write()
		largest, packet := 0, []byte(nil)
		ws[2].eventually("a large packet", func() bool { largest, packet = seen.take(); return largest >= 1400 })
		ws[0].InjectAt(0, 0, fragmentationNeeded(0, packet, mtu)) // goes by 0 and 1 to 2
		ws[2].eventually("received", func() bool { return ws[2].Stack.LinkStats(1).PathMTUs == 1 })
		seen.lose.Store(false)
		read()
		seen.take()
		write()
		read()
		if largest, _ := seen.take(); largest > mtu {
			t.Errorf("%s: the largest packet has %d bytes", addr, largest)
		}
		if a, b := ws[0].handover(), ws[1].handover(); a.ICMP != 1 || b.ICMP != 1 {
			t.Errorf("%s: handed over %+v, %+v", addr, a, b)
		}
		c.Close()
	}
	for _, addr := range []string{"10.2.0.2:8080", "[fd00:2::2]:8080"} {
		ws := startWorkers(t, 3, 128, serveCalls)
		echoBackend(t, ws[0].Backend, addr)
		var seen watcher
		ws[0].LoseToBackend(seen.see)
		ws[0].SteerFromBackend(func([]byte) int { return 1 })
		c := ws[1].call(addr, nil)
		write := func() {
			ws[1].do(func() {
				c.got = nil
				if _, err := c.conn.Write(payload(20_000)); err != nil {
					t.Error(err)
				}
			})
		}
		read := func() { ws[1].eventually("the echo", func() bool { return len(c.got) == 20_000 }) }
		ws[1].eventually("established", func() bool { return c.conn.Established() })
		write()
		read()
		seen.take()
		seen.lose.Store(true)
		write()
		largest, packet := 0, []byte(nil)
		ws[1].eventually("a large packet", func() bool { largest, packet = seen.take(); return largest >= 1400 })
		ws[0].InjectAt(1, 0, fragmentationNeeded(1, packet, mtu))
		ws[1].eventually("received", func() bool { return ws[1].Stack.LinkStats(2).PathMTUs == 1 })
		seen.lose.Store(false)
		read()
		seen.take()
		write()
		read()
		if largest, _ := seen.take(); largest > mtu {
			t.Errorf("%s: the largest packet has %d bytes", addr, largest)
		}
		if a := ws[0].handover(); a.ICMP != 1 {
			t.Errorf("%s: handed over %+v", addr, a)
		}
		// One about a flow that nobody has goes round and is dropped.
		binary.BigEndian.PutUint16(packet[len(packet)-len(frameTCP(append(make([]byte, 14), packet...))):], 80)
		ws[0].InjectAt(1, 0, fragmentationNeeded(1, packet, mtu))
		ws[0].eventually("dropped", func() bool { return ws[0].Stack.HandoverStats().WalkEnded == 1 })
	}
}

func TestStockWayIsHandedOverPlain(t *testing.T) {
	for name, change := range map[string]func([]byte) [][]byte{
		"fragments": func(f []byte) [][]byte { return fragments(f, 64) },
		"options":   withOptions,
	} {
		for _, addr := range bothVersions {
			ws := startWorkers(t, 2, 128, serveEcho)
			resets := watchClient(ws[0].Network)
			ws[0].LoseFromClient(func(f []byte) bool {
				resets.see(fromPeer, f)
				s := frameTCP(f)
				if len(s) < 100 {
					return true
				}
				for _, g := range change(f) {
					ws[0].InjectAt(0, 1, g)
				}
				return false
			})
			c, err := ws[0].Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, c, payload(50_000))
			if n := resets.resets(); n != 0 {
				t.Errorf("%s, %s: %d resets were sent", name, addr, n)
			}
			if st := ws[1].handover(); st.Walk < 50_000/1500 || st.WalkEnded != 0 {
				t.Errorf("%s, %s: %+v", name, addr, st)
			}
			c.Close()
		}
	}
	// The same for a backend flow.
	ws := startWorkers(t, 2, 128, serveCalls)
	echoBackend(t, ws[0].Backend, "10.2.0.2:8080")
	ws[0].LoseFromBackend(func(f []byte) bool {
		s := frameTCP(f)
		if len(s) < 100 {
			return true
		}
		for _, g := range fragments(f, 64) {
			ws[0].InjectAt(1, 1, g)
		}
		return false
	})
	c := ws[0].call("10.2.0.2:8080", payload(50_000))
	ws[0].eventually("the echo ends", func() bool { return c.err != nil })
	if c.err != io.EOF || len(c.got) != 50_000 || ws[1].handover().Owner < 50_000/1500 {
		t.Errorf("got %d bytes, %v, handed over %+v", len(c.got), c.err, ws[1].handover())
	}
}

// A SYN that comes again at another worker starts a second handshake there. It
// must end by itself, wherever the connection's segments come in from then on.
func TestRetransmittedSYNAtAnotherWorker(t *testing.T) {
	for _, c := range []struct {
		name string
		lost bool // the first worker's SYN-ACK, until the second's has come
		then int  // worker that further segments come in at
		has  int  // worker that has the connection
	}{
		{"a late copy, frames at the first worker", false, 0, 0},
		{"a late copy, frames at the second worker", false, 1, 0},
		{"the SYN-ACK was lost, frames at the first worker", true, 0, 1},
		{"the SYN-ACK was lost, frames at the second worker", true, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			ws := startWorkers(t, 2, 128, serveEcho)
			var mu sync.Mutex
			var syn []byte
			var syns, answers int
			var first uint32 // sequence number of the first worker's SYN-ACK
			lose := c.lost
			ws[0].SteerFromClient(func(f []byte) int {
				mu.Lock()
				defer mu.Unlock()
				if frameFlags(f)&header.TCPFlagSyn == 0 {
					return c.then
				}
				syn = append([]byte(nil), f...)
				syns++
				return min(syns-1, 1)
			})
			resets := watchClient(ws[0].Network)
			ws[0].LoseToClient(func(f []byte) bool {
				resets.see(toPeer, f)
				mu.Lock()
				defer mu.Unlock()
				if frameFlags(f)&header.TCPFlagSyn == 0 {
					return true
				}
				sequence := frameTCP(f).SequenceNumber()
				if answers++; answers == 1 {
					first = sequence
				}
				return !lose || sequence != first
			})
			conn, err := ws[0].Client.Dial("10.1.0.1:80")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			echo := func() {
				conn.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
				if _, err := conn.Write([]byte("ping")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadFull(conn, make([]byte, 4)); err != nil {
					t.Fatal(err)
				}
			}
			echo()
			mu.Lock()
			before, copied := answers, syn
			lose = false
			mu.Unlock()
			if !c.lost {
				ws[0].InjectAt(0, 1, copied)
			}
			// The SYN-ACK of the handshake that is left over comes, and the
			// client answers it.
			ws[0].eventually("a SYN-ACK too many", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return answers > before
			})
			echo()
			roundTrip(t, conn, payload(100_000))
			if n := resets.resets(); n != 0 {
				t.Errorf("%d resets were sent", n)
			}
			if a, b := ws[c.has].passiveOpens(), ws[1-c.has].passiveOpens(); a != 1 || b != 0 {
				t.Errorf("worker %d accepted %d connections, the other %d", c.has, a, b)
			}
		})
	}
}

func TestFullHandoverRingIsLossThatTCPHeals(t *testing.T) {
	ws := startWorkers(t, 2, 128, serveEcho)
	ws[0].SteerFromClient(func(f []byte) int {
		if frameFlags(f)&header.TCPFlagSyn != 0 {
			return 0
		}
		return 1
	})
	resets := watchClient(ws[0].Network)
	ws[0].LimitHandover(0)
	c, err := ws[0].Client.Dial("10.1.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		ws[1].eventually("frames were lost", func() bool { return ws[1].Stack.HandoverStats().Full >= 2 })
		ws[0].LimitHandover(8) // still loses some of a window
	}()
	roundTrip(t, c, payload(200_000))
	if n := resets.resets(); n != 0 {
		t.Errorf("%d resets were sent", n)
	}
	if st := ws[1].handover(); st.Full < 2 || st.Walk == 0 {
		t.Errorf("%+v", st)
	}
}

// The SYN queue of a backlog of 0 is always full.
func TestSYNCookiesAreCompletedByTheirWorker(t *testing.T) {
	for _, moved := range []bool{false, true} {
		ws := startWorkers(t, 3, 0, serveEcho)
		var established atomic.Bool
		resets := watchClient(ws[0].Network)
		ws[0].SteerFromClient(func([]byte) int {
			if moved && established.Load() {
				return 2
			}
			return 1
		})
		for i, addr := range bothVersions {
			established.Store(false)
			c, err := ws[0].Client.Dial(addr)
			if err != nil {
				t.Fatal(err)
			}
			ws[1].eventually("accepted", func() bool { return ws[1].Stack.TCPStats().PassiveOpens == uint64(i+1) })
			established.Store(true)
			roundTrip(t, c, payload(50_000))
			c.Close()
		}
		if st := ws.tcp(); resets.resets() != 0 || st.SynCookiesReceived != 2 {
			t.Errorf("moved %v: %d resets were sent, %+v", moved, resets.resets(), st)
		}
	}
}

func TestTimeWaitOfAnotherWorker(t *testing.T) {
	for _, addr := range bothVersions {
		ws := startWorkers(t, 2, 128, hangUp)
		var queue, finSeen, lost, resets atomic.Int32
		ws[0].SteerFromClient(func(f []byte) int {
			if frameFlags(f)&header.TCPFlagFin != 0 && finSeen.Add(1) > 1 {
				return 1 // a FIN that is sent again
			}
			return int(queue.Load())
		})
		// The ACK of the client's FIN is lost, so that the FIN comes again.
		ws[0].LoseToClient(func(f []byte) bool {
			flags := frameFlags(f)
			if flags&header.TCPFlagRst != 0 {
				resets.Add(1)
			}
			return finSeen.Load() == 0 || flags != header.TCPFlagAck || !lost.CompareAndSwap(0, 1)
		})
		say := func() {
			c, err := ws[0].Client.DialFrom(40000, addr)
			for err != nil && strings.Contains(err.Error(), "port is in use") { // it was closed just now
				time.Sleep(time.Millisecond)
				c, err = ws[0].Client.DialFrom(40000, addr)
			}
			if err != nil {
				t.Fatalf("%s: %v", addr, err)
			}
			c.SetDeadline(time.Now().Add(20 * time.Second)) //nolint:errcheck // shows in Read
			if queue.Load() == 1 {
				queue.Store(0) // where the old connection waits
			}
			if _, err := c.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
				t.Fatalf("%s: read %q, %v", addr, got, err)
			}
			c.Close()
		}
		say()
		ws[0].eventually("the FIN came again and was answered", func() bool {
			return finSeen.Load() >= 2 && ws[0].Stack.LinkStats(1).TimeWaitSegments >= 1
		})
		ws[0].eventually("the client is done", func() bool { return ws[0].Client.Connections() == 0 })
		queue.Store(1)
		say() // the same tuple, accepted by worker 1
		if n := ws[1].passiveOpens(); n != 1 {
			t.Errorf("%s: worker 1 accepted %d connections", addr, n)
		}
		if n := resets.Load(); n != 0 {
			t.Errorf("%s: %d resets were sent", addr, n)
		}
	}
}

func TestFramesOfFurtherQueuesAreReceived(t *testing.T) {
	l := start(t, nil, serveEcho)
	l.listen("10.1.0.1:80")
	var flows atomic.Int32
	l.SteerFromClient(func(f []byte) int { return int(frameTCP(f).SourcePort() % 2) })
	for flows.Load() < 4 {
		c, err := l.Client.Dial("10.1.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		flows.Add(int32(c.LocalAddr().(*net.TCPAddr).Port%2)*2 + 1)
		roundTrip(t, c, payload(100_000))
		c.Close()
	}
}

func TestPortBlock(t *testing.T) {
	for _, c := range []struct {
		first, last     uint16
		worker, workers int
		from, to        uint16
	}{
		{10000, 29999, 0, 1, 10000, 29999},
		{10000, 29999, 0, 2, 10000, 19999},
		{10000, 29999, 1, 2, 20000, 29999},
		{10000, 29999, 2, 3, 23332, 29997},
		{1024, 65535, 63, 64, 64528, 65535},
		{1, 65535, 0, 1, 1, 65535},
	} {
		if from, to := stack.PortBlock(c.first, c.last, c.worker, c.workers); from != c.from || to != c.to {
			t.Errorf("worker %d of %d in %d-%d: %d-%d", c.worker, c.workers, c.first, c.last, from, to)
		}
	}
}

func TestPortsStayWithinTheBlock(t *testing.T) {
	n := stacktest.NewWorkers(t, 3, func(_ int, c *stack.Config) { c.FirstPort, c.LastPort = 20000, 20010 })
	for w, s := range n.Stacks {
		first, last := stack.PortBlock(20000, 20010, w, 3)
		for range 3 {
			c, err := s.Connect(netip.MustParseAddrPort("10.2.0.2:8080"))
			if err != nil {
				t.Fatal(err)
			}
			if p := c.LocalAddr().Port(); p < first || p > last {
				t.Errorf("worker %d connects from %d, its block is %d-%d", w, p, first, last)
			}
			defer c.Abort()
		}
		if _, err := s.Connect(netip.MustParseAddrPort("10.2.0.2:8080")); err != stack.ErrNoPort {
			t.Errorf("worker %d: a fourth connection from three ports: %v", w, err)
		}
	}
}

func TestConfigurationOfWorkersIsChecked(t *testing.T) {
	var good stack.Config
	stacktest.NewWorkers(t, 2, func(w int, c *stack.Config) { good = *c })
	for name, change := range map[string]func(*stack.Config){
		"no such worker":    func(c *stack.Config) { c.Worker = 2 },
		"too few ports":     func(c *stack.Config) { c.LastPort = c.FirstPort },
		"no ports":          func(c *stack.Config) { c.FirstPort, c.LastPort = 0, 0 },
		"a negative worker": func(c *stack.Config) { c.Worker = -1 },
	} {
		c := good
		change(&c)
		if _, err := stack.New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
