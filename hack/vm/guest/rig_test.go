package guest

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/dataplane"
	"ringroad/hack/lab"
)

// The front doors of ringroad. Behind those that are fresh every request makes a connection to the backend.
var (
	door4  = netip.MustParseAddrPort(nut4 + ":80")
	door6  = netip.MustParseAddrPort("[" + nut6 + "]:80")
	fresh4 = netip.MustParseAddrPort(nut4 + ":81")
	fresh6 = netip.MustParseAddrPort("[" + nut6 + "]:81")
)

// The size of frames is ringroad's choice: igb needs 4 KB for zero-copy (see dataplane's policy of drivers).
const configuration = `interfaces: [nut]
rx_checksum: verify
rings: {entries: 1024}
listeners:
  - {address: "10.9.0.1:80", upstream: four}
  - {address: "[fd09::1]:80", upstream: six}
  - {address: "10.9.0.1:81", upstream: fresh4}
  - {address: "[fd09::1]:81", upstream: fresh6}
upstreams:
  four: {servers: ["10.9.0.2:8080"]}
  six: {servers: ["[fd09::2]:8080"]}
  fresh4: {servers: ["10.9.0.2:8080"], keepalive: 0}
  fresh6: {servers: ["[fd09::2]:8080"], keepalive: 0}
`

// startLimit is for each step of starting. An emulated machine on a host with other work is slow, and hack/vm ends it in any case.
const startLimit = time.Minute

// rig is a ringroad on the NIC under test.
type rig struct {
	*lab.Ringroad
	queues  int // of the NIC
	workers int
	rss     *dataplane.RSS // nil: one queue
	asked   atomic.Int64   // requests that were answered
}

// start runs ringroad by a configuration with a worker for each of that many queues, and the best mode that the driver has, until the test ends.
func start(t *testing.T, queues int, yaml string) *rig {
	t.Helper()
	prepare(t, queues)
	r := &rig{Ringroad: launch(t, yaml+bestMode()), queues: queues, workers: queues}
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	r.waitServes(t)
	return r
}

// bestMode asks for the best mode that the driver has.
func bestMode() string {
	if guest.zeroCopy {
		return "zero_copy: on\n"
	}
	return "zero_copy: auto\n"
}

// waitServes waits until ringroad serves, and learns how the NIC places flows now.
func (r *rig) waitServes(t *testing.T) {
	t.Helper()
	r.readRSS(t)
	r.waitCarrier(t)
	wait(t, startLimit, "the first request is answered", func() (bool, string) {
		err := r.get(door4, "/", 2*time.Second)
		return err == nil, fmt.Sprintf("%v\n%s", err, r.Output())
	})
}

// try runs a test on the rig, after which every frame must be accounted for.
func (r *rig) try(t *testing.T, name string, test func(*testing.T)) {
	t.Run(name, func(t *testing.T) {
		test(t)
		r.mustBeHome(t)
		// Those that igb hands out twice (dataplane, rx.go).
		if n := r.sum(r.stats(t), "ours.rx_invalid"); n > 0 {
			t.Attr("invalid", fmt.Sprintf("%.0f frames dropped", n))
		}
	})
}

// prepare gives the NIC its number of queues, with the table that goes with it. Virtio has as many as there are.
func prepare(t *testing.T, queues int) {
	t.Helper()
	if guest.driver != "igb" {
		return
	}
	// Queues that the table names cannot go.
	for _, step := range []func() error{
		func() error { return setIndirection("nut", inTurn(1)) },
		func() error { return setChannels("nut", queues) },
		func() error { return setIndirection("nut", inTurn(queues)) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
}

// inTurn is the table that a NIC starts with.
func inTurn(queues int) []uint32 {
	table := make([]uint32, 128)
	for i := range table {
		table[i] = uint32(i % queues)
	}
	return table
}

// launch starts ringroad and does not wait.
func launch(t *testing.T, yaml string) *lab.Ringroad {
	t.Helper()
	return launchIn(t, t.TempDir(), yaml)
}

// launchIn starts a ringroad that keeps its files in a directory: it is the successor of another one there.
func launchIn(t *testing.T, dir, yaml string) *lab.Ringroad {
	t.Helper()
	r := &lab.Ringroad{
		ConfigFile: filepath.Join(dir, "ringroad.yaml"), StatsFile: filepath.Join(dir, "stats.json"), Control: filepath.Join(dir, "control.sock"),
	}
	if err := r.Configure(yaml); err != nil {
		t.Fatal(err)
	}
	c := exec.Command("/bin/ringroad", "run", "-c", r.ConfigFile, "--stats-file", r.StatsFile, "--control", r.Control)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if r.Process, err = new(lab.Lab).Start("ringroad", c); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if !r.Stop(10 * time.Second) {
			t.Error("ringroad did not stop")
		}
		resetBackendConnections()
		if t.Failed() {
			fmt.Fprintln(os.Stderr, r.Output())
		}
	})
	return r
}

func (r *rig) readRSS(t *testing.T) {
	t.Helper()
	if r.queues == 1 {
		return
	}
	var err error
	if r.rss, err = dataplane.ReadRSS(guest.nut.Attrs().Index); err != nil && (guest.tellsRSS || !errors.Is(err, dataplane.ErrUnsupported)) {
		t.Fatal(err)
	}
}

// predicts tells whether it is known which worker a client's frames must come to.
func (r *rig) predicts() bool { return r.rss != nil || r.workers == 1 }

// waitCarrier waits for the link, which attaching a program resets.
func (r *rig) waitCarrier(t *testing.T) {
	t.Helper()
	wait(t, startLimit, "the link is up", func() (bool, string) {
		l, err := netlink.LinkByName("nut")
		if err != nil {
			return false, err.Error()
		}
		return l.Attrs().OperState == netlink.OperUp, l.Attrs().OperState.String()
	})
}

// workerOf is the worker on whose queue the NIC must receive a client's frames.
func (r *rig) workerOf(from, to netip.AddrPort) int {
	if r.rss == nil {
		return 0
	}
	return r.rss.Queue(from, to) % r.workers
}

// ports counts the local ports that clients have used; they are some that the kernel does not give out itself.
var ports atomic.Uint32

func nextClient(to netip.AddrPort) netip.AddrPort {
	a := netip.MustParseAddr(peer4)
	if to.Addr().Is6() {
		a = netip.MustParseAddr(peer6)
	}
	return netip.AddrPortFrom(a, uint16(2000+ports.Add(1)%25000))
}

// clientFor returns a client address whose connections a certain worker serves, or any one where that cannot be predicted.
func (r *rig) clientFor(worker int, to netip.AddrPort) netip.AddrPort {
	for {
		if from := nextClient(to); !r.predicts() || r.workerOf(from, to) == worker {
			return from
		}
	}
}

// client is an HTTP client with one connection, from an address.
func client(from netip.AddrPort, limit time.Duration) *http.Client {
	return &http.Client{Timeout: limit, Transport: &http.Transport{
		MaxConnsPerHost: 1, TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}, DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
			err = inPeer(func() error {
				c, err = (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}).DialContext(ctx, network, address)
				return err
			})
			return c, err
		},
	}}
}

// get asks for a path over a connection of its own and reads the answer.
func (r *rig) get(to netip.AddrPort, path string, limit time.Duration) error {
	c := client(nextClient(to), limit)
	defer c.CloseIdleConnections()
	return r.fetch(c, "http://"+to.String()+path)
}

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string { return fmt.Sprint("status ", int(e)) }

func (r *rig) fetch(c *http.Client, url string) error {
	response, err := c.Get(url)
	if err != nil {
		return err
	}
	return r.discard(response)
}

// discard reads an answer to its end. One other than 200 is an error.
func (r *rig) discard(response *http.Response) error {
	r.asked.Add(1)
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return statusError(response.StatusCode)
	}
	return nil
}

// stats reads statistics in which every request that was answered so far is counted: workers publish them a moment late.
func (r *rig) stats(t *testing.T) (s lab.Stats) {
	t.Helper()
	wait(t, 40*time.Second, "every request is counted", func() (bool, string) {
		var err error
		if s, err = r.Stats(); err != nil {
			t.Fatal(err)
		}
		return s["proxy.requests"] >= float64(r.asked.Load()), fmt.Sprintf("%.0f of %d", s["proxy.requests"], r.asked.Load())
	})
	return s
}

// mustBeHome waits until on every queue each frame is either free, or sent (an idle queue leaves it on the completion ring), or with the
// kernel to receive into.
func (r *rig) mustBeHome(t *testing.T) {
	t.Helper()
	wait(t, 40*time.Second, "every frame is back", func() (bool, string) {
		s := r.stats(t)
		for q := range r.queues {
			levels := fmt.Sprintf("interfaces.nut.queues.%d.levels.", q)
			if frames, home := s[levels+"frames"], s[levels+"free"]+s[levels+"completion_ring"]+s[levels+"fill"]; frames == 0 || frames != home {
				return false, fmt.Sprintf("queue %d: %.0f of %.0f; %v", q, home, frames, s)
			}
		}
		return true, ""
	})
}

// sum adds up a counter over the queues.
func (r *rig) sum(s lab.Stats, counter string) (sum float64) {
	for q := range r.queues {
		sum += s[fmt.Sprintf("interfaces.nut.queues.%d.%s", q, counter)]
	}
	return sum
}

// handedOver is the number of frames that came in at another worker's queue: what backends sent, and what clients sent on a connection that
// some worker has. One of a connection that nobody has any more goes past every worker, and comes back.
func (r *rig) handedOver(s lab.Stats) float64 {
	return s["handover.handed_owner"] + s["handover.handed_walk"] - float64(r.workers)*s["handover.walk_ended"]
}

// handovers are the numbers of the handover, of each worker too.
func handovers(s lab.Stats) lab.Stats {
	only := lab.Stats{}
	for path, v := range s {
		if strings.HasPrefix(path, "handover.") || strings.Contains(path, ".handover.handed_") {
			only[path] = v
		}
	}
	return only
}

func isStatus(err error, status int) bool {
	var s statusError
	return errors.As(err, &s) && int(s) == status
}

func short(key []byte) string { return hex.EncodeToString(key[:min(4, len(key))]) + "..." }
