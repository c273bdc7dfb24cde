package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// longVariable makes the tests of large bodies move 10 GB each way; else it is 1 GiB, which shows the same in less time.
const longVariable = "RINGROAD_E2E_LONG"

func largeBody() int64 {
	if os.Getenv(longVariable) != "" {
		return 10_000_000_000
	}
	return 1 << 30
}

// What ringroad may hold for a connection: kernels count the same way, tcp_rmem and tcp_wmem.
const (
	bufferBytes       = 1 << 20 // of a socket buffer, at most
	relayBytes        = 64 << 10
	boundedBuffers    = "tcp: {receive_buffer: {max: 1MiB}, send_buffer: {max: 1MiB}}\n"
	garbage           = 2        // the collector lets the heap grow to twice what is in use
	segmentOverhead   = 2        // a buffer is full of segments: a page of 2 KiB and its description hold 1448 bytes
	heapAndStackBytes = 16 * mib // that grow at the first use
)

// mayHold is how many bytes of memory relaying for some clients may take, each with a connection to a backend.
func mayHold(clients int) int64 {
	buffers := 2*bufferBytes*segmentOverhead + 2*relayBytes
	return int64(clients*buffers*garbage + heapAndStackBytes)
}

func memory(t *testing.T, r *lab.Ringroad) int64 {
	t.Helper()
	n, err := r.Memory()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// transfer is what /bytes/size sends on its way to a client, compared with what it should be.
type transfer struct {
	conn net.Conn // nil where somebody else has it
	from io.Reader
	want io.Reader
	size int64
	got  int64
	p, q []byte
}

func newTransfer(from io.Reader, size int64) *transfer {
	return &transfer{from: from, want: backend.Body("bytes", size), size: size, p: make([]byte, 64<<10), q: make([]byte, 64<<10)}
}

// begin asks for /bytes/size and reads the head of the answer alone.
func begin(t *testing.T, address string, size int64) *transfer {
	t.Helper()
	c := dial(t, address)
	if err := c.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(c, "GET /bytes/%d HTTP/1.1\r\nHost: example.org\r\n\r\n", size); err != nil {
		t.Fatal(err)
	}
	// Its kernel takes little of what the client does not read.
	if err := c.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.ContentLength != size {
		t.Fatalf("answered %+v, %v", resp, err)
	}
	d := newTransfer(resp.Body, size)
	d.conn = c
	return d
}

// read reads up to n bytes.
func (d *transfer) read(n int) error {
	k, err := d.from.Read(d.p[:n])
	if _, e := io.ReadFull(d.want, d.q[:k]); e != nil || !bytes.Equal(d.p[:k], d.q[:k]) {
		return fmt.Errorf("other bytes than were sent, behind %d", d.got)
	}
	d.got += int64(k)
	if err != nil && d.got < d.size {
		err = fmt.Errorf("behind %d bytes of %d: %w", d.got, d.size, err)
	}
	return err
}

// readSlowly reads n bytes, some 1.5 MB a second.
func (d *transfer) readSlowly(n int64) error {
	for limit := d.got + n; d.got < limit; {
		time.Sleep(10 * time.Millisecond) // the client is slow
		if err := d.read(16 << 10); err != nil {
			return err
		}
	}
	return nil
}

// readOn reads n bytes more, and the end when that is there.
func (d *transfer) readOn(t *testing.T, n int64) {
	t.Helper()
	for limit := d.got + n; d.got < limit || d.got == d.size; {
		switch err := d.read(len(d.p)); {
		case err == io.EOF:
			return
		case err != nil:
			t.Fatal(err)
		}
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := shared.Client.Dial(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestSlowClientsOfALargeResponse has clients that do not read a response of 1 GiB, and then read it slowly. ringroad may hold no more of
// it than its buffers are large, and other clients may not wait longer for that. Every byte that they read is the right one, also when one
// of them hurries at last.
func TestSlowClientsOfALargeResponse(t *testing.T) {
	const clients, size, rounds, requests = 16, 1 << 30, 3, 500
	r := start(t, bothFamilies+boundedBuffers+"limits: {keepalive_requests: 0}\n")
	other := dial(t, nginx4)
	measure(t, other, requests, nil) // warms everything up
	before := memory(t, r)
	var worst int64
	look := func(when string) {
		grown := memory(t, r) - before
		worst = max(worst, grown)
		if grown > mayHold(clients) {
			t.Errorf("%s, %d clients took %.1f MiB, want at most %.1f", when, clients, float64(grown)/mib, float64(mayHold(clients))/mib)
		}
	}
	var ratios []float64
	for round := range rounds {
		alone := measure(t, other, requests, nil)
		left := inside(stats(t, r)) // by exchanges that clients have ended
		var downloads []*transfer
		for range clients {
			downloads = append(downloads, begin(t, go4, size))
		}
		stalled := waitStalled(t, r)
		if held := inside(stalled) - left; held > clients*2*relayBytes {
			t.Errorf("the worker itself holds %.0f bytes", held)
		}
		look("not reading")
		notReading := measure(t, other, requests, nil)

		done, results := make(chan struct{}), make(chan error, clients)
		var readers sync.WaitGroup
		for _, d := range downloads {
			readers.Go(func() { results <- d.readSlowly(mib) })
		}
		go func() {
			readers.Wait()
			close(done)
		}()
		reading := measure(t, other, requests, done)
		for range clients {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		look("having read slowly")
		ratios = append(ratios, float64(max(notReading, reading))/float64(alone))
		t.Logf("median latency %v, beside clients that do not read %v, that read slowly %v", alone, notReading, reading)

		if round == rounds-1 {
			downloads[0].readOn(t, 64*mib)
			look("reading fast")
		}
		for _, d := range downloads {
			d.conn.Close()
		}
		wait(t, 20*time.Second, "the exchanges are over", func() (bool, string) {
			n := stats(t, r)["proxy.exchanges_active"]
			return n == 0, fmt.Sprintf("%.0f are not", n)
		})
	}
	t.Logf("memory grew by %.1f MiB at most, %.1f are allowed", float64(worst)/mib, float64(mayHold(clients))/mib)
	// The machine may be busy with something else in one round, but not in all. A client that everybody waited for would cost far more.
	if best := slices.Min(ratios); best > 5 {
		t.Errorf("beside slow clients requests took %.1f times as long in every round: %.1f", best, ratios)
	}
}

// inside is how many bytes of responses came in that did not go out.
func inside(s lab.Stats) float64 { return s["proxy.backend_bytes_in"] - s["proxy.client_bytes_out"] }

// waitStalled waits until nothing moves to the clients any more, between two readings of the statistics.
func waitStalled(t *testing.T, r *lab.Ringroad) (s lab.Stats) {
	t.Helper()
	last := -1.0
	wait(t, 30*time.Second, "everything is full", func() (bool, string) {
		s = stats(t, r)
		out := s["proxy.client_bytes_out"]
		still := out == last
		last = out
		return still, fmt.Sprintf("%.0f bytes sent", out)
	})
	return s
}

// measure sends n requests in turn over one connection, and more until the channel is closed when there is one. It returns their median
// latency.
func measure(t *testing.T, c net.Conn, n int, until chan struct{}) time.Duration {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	var took []time.Duration
	for on := until != nil; on || len(took) < n; {
		began := time.Now()
		if err := ask(c, in); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(began))
		select {
		case <-until:
			on = false
		default:
		}
	}
	slices.Sort(took)
	return took[len(took)/2]
}

// TestLargeBodiesTakeBoundedMemory moves 1 GiB each way, or 10 GB when the environment says so.
func TestLargeBodiesTakeBoundedMemory(t *testing.T) {
	size := largeBody()
	r := start(t, bothFamilies+boundedBuffers)
	c := httpClient(t, shared)
	c.Timeout = 10 * time.Minute
	mustServe(t, shared)
	for _, way := range []struct {
		name string
		move func(t *testing.T)
	}{
		{"download in chunks", func(t *testing.T) {
			resp, err := c.Get(fmt.Sprintf("http://%s/bytes/%d?chunked", go4, size))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			newTransfer(resp.Body, size).readOn(t, size)
		}},
		{"upload with length", func(t *testing.T) {
			sum := sha256.New()
			req := request(t, http.MethodPut, "http://"+go4+"/digest", io.TeeReader(backend.Body("upload", size), sum))
			req.ContentLength = size
			_, answer := fetch(t, c, req)
			mustDigest(t, answer, backend.Digest{Bytes: size, SHA256: hex.EncodeToString(sum.Sum(nil))})
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			before := memory(t, r)
			done, most := make(chan struct{}), make(chan int64, 1)
			go func() { most <- mostMemory(r, done) }()
			began := time.Now()
			way.move(t)
			close(done)
			grown := <-most - before
			t.Logf("%.0f MB/s, memory grew by %.1f MiB, %.1f are allowed", float64(size)/1e6/time.Since(began).Seconds(), float64(grown)/mib, float64(mayHold(1))/mib)
			if grown > mayHold(1) {
				t.Errorf("memory grew by %.1f MiB, want at most %.1f", float64(grown)/mib, float64(mayHold(1))/mib)
			}
		})
	}
}

// mostMemory looks at the memory of ringroad again and again until it is told to stop.
func mostMemory(r *lab.Ringroad, done chan struct{}) (most int64) {
	for {
		n, err := r.Memory()
		if err != nil {
			return 1 << 60 // ringroad has ended
		}
		most = max(most, n)
		select {
		case <-done:
			return most
		case <-time.After(50 * time.Millisecond):
		}
	}
}
