package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket/pcapgo"

	"ringroad/hack/lab"
)

// capture is a `ringroad capture` that runs.
type capture struct {
	*lab.Process
	file string
}

// startCapture starts one and waits until it is on.
func startCapture(t *testing.T, r *lab.Ringroad, args ...string) *capture {
	t.Helper()
	c := &capture{file: filepath.Join(t.TempDir(), "capture.pcapng")}
	var err error
	if c.Process, err = r.StartCommand("capture", append([]string{"-w", c.file}, args...)...); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitLine("capturing on e0, e1", startLimit); err != nil {
		t.Fatal(err)
	}
	return c
}

// finish ends it as Ctrl-C does, and reads what it has written.
func (c *capture) finish(t *testing.T) []captured {
	t.Helper()
	if err := c.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	return c.read(t)
}

// read waits until it has ended.
func (c *capture) read(t *testing.T) []captured {
	t.Helper()
	if err := c.Wait(startLimit); err != nil {
		t.Fatalf("%v\n%s", err, c.Output())
	}
	b, err := os.ReadFile(c.file)
	if err != nil {
		t.Fatal(err)
	}
	return readCapture(t, b)
}

// captured is a TCP segment of a capture.
type captured struct {
	link, comment string
	queue         uint32
	inbound       bool
	at            time.Time
	from, to      uint16
	flags         byte
	payload       string
}

const fin, syn = 1, 2

// readCapture reads a capture by a library that ringroad does not use, and checks each segment's checksums.
func readCapture(t *testing.T, file []byte) (all []captured) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, info, options, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		link, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		c := captured{
			link: link.Name, comment: strings.Join(options.Comments, "; "), queue: *options.Queue,
			inbound: options.Flags.Direction == pcapgo.NgEpbFlagDirectionInbound, at: info.Timestamp,
		}
		ip := frame[14:]
		if n := int(be16(ip[2:])); n > len(ip) { // the tests capture IPv4
			t.Fatalf("%d bytes of %d were captured of a packet of %d: %+v", info.CaptureLength, info.Length, n, c)
		}
		ip = ip[:be16(ip[2:])]
		tcp := ip[int(ip[0]&0xf)*4:]
		pseudo := append(bytes.Clone(ip[12:20]), 0, 6, byte(len(tcp)>>8), byte(len(tcp)))
		if sum(ip[:len(ip)-len(tcp)]) != 0xffff || sum(append(pseudo, tcp...)) != 0xffff {
			t.Errorf("a bad checksum in %+v", c)
		}
		c.from, c.to, c.flags = be16(tcp), be16(tcp[2:]), tcp[13]
		c.payload = string(tcp[int(tcp[12]>>4)*4:])
		all = append(all, c)
	}
}

func be16(b []byte) uint16 { return uint16(b[0])<<8 | uint16(b[1]) }

// sum is the Internet checksum (RFC 1071) of b, not inverted.
func sum(b []byte) (s uint32) {
	if len(b)%2 != 0 {
		b = append(b, 0)
	}
	for i := 0; i < len(b); i += 2 {
		s += uint32(be16(b[i:]))
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return s
}

// TestCaptureShowsAWholeExchange follows requests from SYN to FIN on both sides of two workers.
func TestCaptureShowsAWholeExchange(t *testing.T) {
	for _, c := range spread[:2] {
		t.Run(c.name, func(t *testing.T) {
			w := upWide(t, lab.Options{Queues: c.queues, RSS: c.rss})
			base := strings.ReplaceAll(bothFamilies, `["10.2.0.2:8080"]}`, `["10.2.0.2:8080"], keepalive: 0}`)
			r := startIn(t, w.Lab, w.configuration(base))
			all := startCapture(t, r)
			const requests = 8
			for i := range requests {
				path := fmt.Sprintf("http://%s/?n=%d", nginx4, i)
				if out, err := w.Client.Run(10*time.Second, "curl", "-sS", "-H", "Connection: close", path); err != nil || out != hello {
					t.Fatalf("%q, %v", out, err)
				}
			}
			wait(t, 10*time.Second, "every connection is over", func() (bool, string) {
				s := stats(t, r)
				return s["proxy.clients_active"]+s["proxy.backends_active"] == 0, fmt.Sprint(s["proxy.clients_active"], s["proxy.backends_active"])
			})
			segments := all.finish(t)
			mustMatch(t, all.Output(), fmt.Sprintf(`%d frames captured in`, len(segments)), `0 frames dropped`)
			mustBeWellFormed(t, all.file, requests)
			queues, workers, handed := map[uint32]bool{}, map[string]bool{}, 0
			for i, s := range segments {
				// Workers' times may differ by how long one was held up when it noted them.
				if i > 0 && s.at.Before(segments[i-1].at) {
					t.Logf("segment %d is older than the one before by %v", i, segments[i-1].at.Sub(s.at))
				}
				if s.inbound {
					queues[s.queue] = true
				}
				worker, rest, _ := strings.Cut(s.comment, ", ")
				workers[worker] = true
				if strings.HasPrefix(rest, "handed over to worker") {
					handed++
				} else if rest != "" {
					t.Errorf("comment %q", s.comment)
				}
			}
			if len(queues) != 2 || len(workers) != 2 {
				t.Errorf("frames of queues %v, workers %v", queues, workers)
			}
			if (handed > 0) != (c.rss == nil) {
				t.Errorf("%d frames were handed over", handed)
			}
			for i := range requests {
				mustFollow(t, segments, fmt.Sprintf("GET /?n=%d ", i))
			}
		})
	}
}

// mustFollow checks that the exchange of a request is there, each frame once, on both sides.
func mustFollow(t *testing.T, segments []captured, request string) {
	t.Helper()
	for _, side := range []struct {
		link       string
		fromClient bool // the request comes in
	}{{"e0", true}, {"e1", false}} {
		var flow []captured
		for _, s := range segments {
			if s.link == side.link && s.inbound == side.fromClient && strings.HasPrefix(s.payload, request) {
				for _, f := range segments {
					if f.link == s.link && (f.from == s.from && f.to == s.to || f.from == s.to && f.to == s.from) {
						flow = append(flow, f)
					}
				}
				break
			}
		}
		if len(flow) == 0 {
			t.Errorf("%s: no %q", side.link, request)
			continue
		}
		want := []struct {
			what  string
			ours  bool // of the same direction as the request
			found func(captured) bool
		}{
			{"SYN", true, func(s captured) bool { return s.flags&(syn|16) == syn }},
			{"SYN-ACK", false, func(s captured) bool { return s.flags&(syn|16) == syn|16 }},
			{"request", true, func(s captured) bool { return strings.HasPrefix(s.payload, request) }},
			{"response", false, func(s captured) bool { return strings.HasPrefix(s.payload, "HTTP/1.1 200 OK\r\n") }},
		}
		i := 0
		fins := map[bool]int{}
		for _, s := range flow {
			ours := s.inbound == side.fromClient
			if i < len(want) && ours == want[i].ours && want[i].found(s) {
				i++
			}
			if s.flags&fin != 0 {
				fins[ours]++
			}
		}
		if i < len(want) {
			t.Errorf("%s, %q: no %s in its place among %d segments", side.link, request, want[i].what, len(flow))
		}
		if fins[true] == 0 || fins[false] == 0 {
			t.Errorf("%s, %q: %d and %d FINs, want one each", side.link, request, fins[true], fins[false])
		}
	}
}

// mustBeWellFormed has Wireshark look at the capture.
func mustBeWellFormed(t *testing.T, file string, requests int) {
	t.Helper()
	count := func(filter string) int {
		out, err := exec.Command("tshark", "-r", file, "-d", "tcp.port==8080,http", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
			"-Y", filter).Output()
		if err != nil {
			t.Fatalf("tshark: %v", err)
		}
		return strings.Count(string(out), "\n")
	}
	for filter, want := range map[string]int{
		"_ws.malformed or tcp.checksum.status == 0 or ip.checksum.status == 0": 0,
		"http.request": 2 * requests, "http.response": 2 * requests,
		"tcp.analysis.lost_segment or tcp.analysis.ack_lost_segment": 0, // what it does not find, but should
	} {
		if got := count(filter); got != want {
			t.Errorf("tshark finds %d frames of %q, want %d", got, filter, want)
		}
	}
}

func TestCaptureFiltersAndLimits(t *testing.T) {
	r := start(t, bothFamilies)
	c := startCapture(t, r, "-c", "2", "-Q", "in", "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst port 80")
	for range 3 {
		mustServe(t, shared)
	}
	for _, s := range c.read(t) {
		if s.link != "e0" || !s.inbound || s.to != 80 || s.flags != syn {
			t.Errorf("captured %+v", s)
		}
	}
	mustMatch(t, c.Output(), `(?m)^2 frames captured`)
	// The lines for people, and an end by time.
	out, err := r.Command(startLimit, "capture", "-d", "10ms")
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, out, `(?m)^0 frames captured in`)
	if out, err = r.Command(startLimit, "capture", "prot", "80"); err == nil {
		t.Error("a mistake in the filter is taken")
	}
	mustContain(t, out, `filter: column 1: "prot"`)
}

// TestCaptureLeavesNothing kills captures in every way, and looks at what remains.
func TestCaptureLeavesNothing(t *testing.T) {
	r := start(t, bothFamilies)
	pids, err := r.Processes()
	if err != nil {
		t.Fatal(err)
	}
	gone := func(what string) {
		t.Helper()
		wait(t, 10*time.Second, what+": no buffer is mapped or open", func() (bool, string) {
			var left []string
			for _, pid := range pids {
				maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(string(maps), "ringroad-capture") {
					left = append(left, fmt.Sprintf("mapped by %d", pid))
				}
				fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
				if err != nil {
					t.Fatal(err)
				}
				for _, fd := range fds {
					if to, err := os.Readlink(fd); err == nil && strings.Contains(to, "ringroad-capture") {
						left = append(left, fmt.Sprintf("open in %d", pid))
					}
				}
			}
			return len(left) == 0, strings.Join(left, "; ")
		})
		mustServe(t, shared)
	}
	gone("before")
	c := startCapture(t, r)
	mustServe(t, shared)
	if out, err := r.Command(startLimit, "capture", "-d", "1s"); err == nil || !strings.Contains(out, "another capture is running") {
		t.Errorf("a second capture: %v\n%s", err, out)
	}
	if err := c.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone("client killed")
	c = startCapture(t, r)
	if out, err := r.Command(startLimit, "capture", "--stop"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	c.read(t)
	gone("ended by another command")
	if out, err := r.Command(startLimit, "capture", "--stop"); err == nil || !strings.Contains(out, "no capture is running") {
		t.Errorf("nothing to end: %v\n%s", err, out)
	}
}

// TestSlowCaptureLosesFramesAndCountsThem stops the client while a body passes.
func TestSlowCaptureLosesFramesAndCountsThem(t *testing.T) {
	r := start(t, bothFamilies)
	c := startCapture(t, r, "-B", "64")
	if err := c.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	moveBodies(t, httpClient(t, shared), "http://"+go4, mib, 4)
	if err := c.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.finish(t)
	mustNotMatch(t, c.Output(), `(?m)^0 frames dropped`)
	mustMatch(t, c.Output(), `(?m)^\d+ frames dropped because a buffer was full: a larger --buffer-size`)
}

// TestCaptureOutlivesItsWorker goes on with the one that is started in a dead one's place.
func TestCaptureOutlivesItsWorker(t *testing.T) {
	r := start(t, bothFamilies)
	c := startCapture(t, r, "port", "80")
	mustServe(t, shared)
	if err := syscall.Kill(workerPID(t, r, 0), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := r.WaitLine("the worker serves again", startLimit); err != nil {
		t.Fatal(err)
	}
	mustServe(t, shared)
	before, after := 0, 0
	for _, s := range c.finish(t) {
		if s.flags == syn && s.inbound {
			before++
		} else if before > 1 {
			after++
		}
	}
	if before < 2 || after == 0 {
		t.Errorf("%d connections, %d segments of the second", before, after)
	}
}
