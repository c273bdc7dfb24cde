package lab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
)

// crashVariable makes the test binary bring a lab up, say so and wait to be killed.
const crashVariable = "RINGROAD_LAB_TEST_CRASH"

func TestMain(m *testing.M) {
	Child()
	if os.Getenv(crashVariable) != "" {
		l, err := Up(Options{})
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		fmt.Println("up", l.ID)
		select {}
	}
	os.Exit(m.Run())
}

func up(t *testing.T, o Options) *Lab {
	t.Helper()
	l, err := Up(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		mustBeGone(t, l.ID)
	})
	return l
}

// mustBeGone looks for what a lab could leave behind.
func mustBeGone(t *testing.T, id string) {
	t.Helper()
	for _, pattern := range []string{
		filepath.Join(namespaceDir, namePrefix+id+"-*"),
		filepath.Join(registryDir, id+"*"),
		filepath.Join(memoryDir, dirPrefix+id),
		filepath.Join(os.TempDir(), dirPrefix+id),
	} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	}
	commandLines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range commandLines {
		if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), dirPrefix+id) {
			t.Errorf("process left behind: %q", b)
		}
	}
}

// client speaks HTTP from inside a namespace.
func client(n *Namespace) *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.Dial(ctx, network, address)
	}}}
}

func get(t *testing.T, c *http.Client, url string) string {
	t.Helper()
	r, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return string(b)
}

func TestHostsReachEachOtherOverBothFamilies(t *testing.T) {
	l := up(t, Options{Queues: 2, Forward: true, Files: map[string]int64{"3k": 3000}})
	for _, host := range []string{hostPort(Backend4, NginxPort), hostPort(Backend6, NginxPort), hostPort(Backend4, GoPort), hostPort(Backend6, GoPort)} {
		for _, from := range []*Namespace{l.Client, l.Edge} {
			if got := get(t, client(from), "http://"+host+"/"); got != "hello world\n" {
				t.Errorf("%s from %s: got %q", host, from.Name, got)
			}
		}
		want, _, err := backend.Sum(backend.Body("3k", 3000))
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := backend.Sum(strings.NewReader(get(t, client(l.Edge), "http://"+host+"/f/3k"))); got != want {
			t.Errorf("%s: file arrived changed", host)
		}
		if got := get(t, client(l.Edge), "http://"+host+"/empty"); got != "" {
			t.Errorf("%s/empty: got %q", host, got)
		}
	}
	for _, a := range []struct{ from, to *Namespace }{{l.Client, l.Edge}, {l.Backend, l.Edge}} {
		ip4, ip6 := EdgeToClient4, EdgeToClient6
		if a.from == l.Backend {
			ip4, ip6 = EdgeToBackend4, EdgeToBackend6
		}
		if err := a.from.Ping(ip4, time.Second); err != nil {
			t.Error(err)
		}
		if err := a.from.Ping(ip6, time.Second); err != nil {
			t.Error(err)
		}
	}
}

func TestWithoutForwardingTheClientDoesNotReachTheBackend(t *testing.T) {
	l := up(t, Options{})
	if err := l.Client.WaitTCP(hostPort(Backend4, NginxPort), 300*time.Millisecond); err == nil {
		t.Fatal("the client reached the backend past the edge")
	}
}

func TestOffloads(t *testing.T) {
	for o, want := range map[Offloads][]string{
		ChecksumsFilled: {"tx-checksumming: off", "tx-tcp-segmentation: off", "generic-segmentation-offload: on"},
		OffloadsOn:      {"tx-checksumming: on", "tx-tcp-segmentation: on", "generic-segmentation-offload: on"},
		OffloadsOff: {
			"tx-checksumming: off", "scatter-gather: off", "tx-tcp-segmentation: off",
			"generic-segmentation-offload: off", "generic-receive-offload: off",
		},
	} {
		l := up(t, Options{Offloads: o})
		for n, link := range map[*Namespace]string{l.Client: "c0", l.Edge: EdgeBackendLink} {
			out, err := n.Run(5*time.Second, "ethtool", "-k", link)
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range want {
				if !strings.Contains(out, line) {
					t.Errorf("Offloads %v, %s: no %q in:\n%s", o, link, line, out)
				}
			}
		}
	}
}

func TestWhatSendsToTheEdgeHasAQueueingDiscipline(t *testing.T) {
	for _, c := range []struct {
		Options
		client []string // in order
	}{
		{Options{}, []string{"pfifo_fast"}},
		{Options{Queues: 2}, []string{"mq", "pfifo_fast", "pfifo_fast"}},
		{Options{NoQdisc: true}, []string{"noqueue"}},
	} {
		l := up(t, c.Options)
		for n, link := range map[*Namespace]string{l.Client: ClientLink, l.Backend: BackendLink, l.Edge: EdgeClientLink} {
			want := c.client
			if n == l.Edge {
				want = []string{"noqueue"}
			}
			out, err := n.Run(5*time.Second, "tc", "qdisc", "show", "dev", link)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(out) {
				got = append(got, strings.Fields(line)[1])
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v, %s: %v, want %v", c.Options, link, got, want)
			}
		}
	}
	l := up(t, Options{})
	for _, on := range []bool{false, false, true, true, false} {
		if err := l.SetQdiscs(on); err != nil {
			t.Fatal(err)
		}
		out, err := l.Client.Run(5*time.Second, "tc", "qdisc", "show", "dev", ClientLink)
		if err != nil || strings.Contains(out, "pfifo_fast") != on {
			t.Errorf("%v, want a discipline: %v, %v", out, on, err)
		}
	}
}

func TestFaultLinkLosesWhatItIsToldTo(t *testing.T) {
	const pings, loss = 400, 0.2
	l := up(t, Options{ClientFault: &faultlink.Options{Loss: loss, Seed: 7}})
	// The reply must come back as well.
	for range pings {
		_ = l.Client.Ping(EdgeToClient4, 20*time.Millisecond)
	}
	counters := cut(t, l)
	for name, c := range counters {
		share := float64(c.Lost) / float64(c.Lost+c.Forwarded)
		if c.Forwarded < pings/2 || share < loss/2 || share > loss*2 || c.Refused != 0 {
			t.Errorf("%s: %+v, want about %v lost", name, c, loss)
		}
	}
}

// TestFaultLinkDoesWhatItIsToldTo sends the same requests over wires with a fault each, in one direction.
func TestFaultLinkDoesWhatItIsToldTo(t *testing.T) {
	const pings, delay = 300, time.Millisecond
	l := up(t, Options{ClientFault: &faultlink.Options{
		Seed: 7, Duplicate: 0.2, Reorder: 0.2, Corrupt: 0.2, Delay: delay, Jitter: delay / 2, Only: faultlink.ToEdge,
	}})
	for range pings {
		sent := time.Now()
		if err := l.Client.Ping(EdgeToClient4, 50*time.Millisecond); err == nil && time.Since(sent) < delay/2 {
			t.Fatal("a frame came before it could")
		}
	}
	counters := cut(t, l)
	c, back := counters["to the edge"], counters["from the edge"]
	came := float64(c.Forwarded - c.Duplicated)
	for name, n := range map[string]uint64{"duplicated": c.Duplicated, "reordered": c.Reordered, "corrupted": c.Corrupted} {
		if share := float64(n) / came; share < 0.1 || share > 0.3 {
			t.Errorf("to the edge: %.2f %s, want about 0.2: %+v", share, name, c)
		}
	}
	if back.Forwarded == 0 || back.Duplicated+back.Reordered+back.Corrupted != 0 {
		t.Errorf("from the edge: %+v, want no fault", back)
	}
}

func TestFaultLinkWithoutFaultLosesNothing(t *testing.T) {
	l := up(t, Options{ClientFault: &faultlink.Options{}, BackendFault: &faultlink.Options{}, Forward: true, Files: map[string]int64{"4m": 4 << 20}})
	want, _, err := backend.Sum(backend.Body("4m", 4<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{hostPort(Backend4, NginxPort), hostPort(Backend6, NginxPort)} {
		if got, n, _ := backend.Sum(strings.NewReader(get(t, client(l.Client), "http://"+host+"/f/4m"))); got != want {
			t.Errorf("%s: %d bytes arrived changed", host, n)
		}
	}
	for name, c := range cut(t, l) {
		if c.Lost != 0 || c.Refused != 0 || c.Forwarded == 0 {
			t.Errorf("%s: %+v", name, c)
		}
	}
}

// cut takes the client's wire of a lab away and returns its counters.
func cut(t *testing.T, l *Lab) map[string]faultlink.Counters {
	t.Helper()
	toEdge, fromEdge, err := l.ClientWire.Cut()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]faultlink.Counters{"to the edge": toEdge, "from the edge": fromEdge}
}

// TestCrashLeavesNothingForTheNextRun kills the owner of a lab and brings another one up.
func TestCrashLeavesNothingForTheNextRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), crashVariable+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	id, ok := strings.CutPrefix(strings.TrimSpace(line), "up ")
	if !ok {
		t.Fatalf("child said %q, %v", line, err)
	}
	neighbour := up(t, Options{}) // made while the other runs: neither may touch the other
	if _, err := os.Stat(filepath.Join(namespaceDir, namePrefix+id+"-edge")); err != nil {
		t.Fatalf("a lab that was in use has been removed: %v", err)
	}
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait() // killed
	up(t, Options{})
	mustBeGone(t, id)
	if got := get(t, client(neighbour.Edge), "http://"+hostPort(Backend4, NginxPort)+"/"); got != "hello world\n" {
		t.Errorf("the lab beside it answers %q", got)
	}
}

func TestKernelTCPCountsSegmentsOfItsNamespaceAlone(t *testing.T) {
	l := up(t, Options{})
	before, err := l.Edge.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.Client.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	get(t, client(l.Edge), "http://"+hostPort(Backend6, GoPort)+"/")
	after, err := l.Edge.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	moved := after.Moved(before)
	if moved["Tcp.ActiveOpens"] != 1 || moved["Tcp.InSegs"] < 3 || moved["Tcp.OutSegs"] < 3 {
		t.Errorf("edge counted %v", moved)
	}
	otherAfter, err := l.Client.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	if moved := otherAfter.Moved(other); len(moved) != 0 {
		t.Errorf("client, which did nothing, counted %v", moved)
	}
}

// TestMemoryAndProcessorTimeAreThoseOfAllDescendants looks at a shell with a child that has a child.
func TestMemoryAndProcessorTimeAreThoseOfAllDescendants(t *testing.T) {
	l := up(t, Options{})
	// Each keeps 16 MiB of its own. What follows the last command keeps a shell from replacing itself with it.
	const hold = `x=$(head -c 16777216 /dev/zero | tr '\0' x); `
	c := l.Edge.Exec("bash", "-c", hold+`bash -c "$CHILD"; :`)
	c.Env = append(os.Environ(), "CHILD="+hold+`bash -c "$GRANDCHILD"; :`, "GRANDCHILD="+hold+"echo up; read -r line; :")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := l.Start("shells", c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitLine("up", 20*time.Second); err != nil {
		t.Fatal(err)
	}
	pids, err := p.Processes()
	if err != nil || len(pids) != 3 || pids[0] != p.PID() {
		t.Fatalf("processes %v of %d, %v; want three", pids, p.PID(), err)
	}
	const held = 16 << 20
	memory, err := p.Memory()
	if err != nil || memory < 3*held {
		t.Errorf("%d bytes, %v; want what three shells hold", memory, err)
	}
	if own, err := PSS(p.PID()); err != nil || own < held || own > memory-2*held {
		t.Errorf("%d bytes of %d are the first one's, %v", own, memory, err)
	}
	used, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	if user, system, err := CPU(pids...); err != nil || used == 0 || user+system != used { // nothing works any more
		t.Errorf("%v of processor time, %v and %v in all processes, %v", used, user, system, err)
	}
	in.Close()
	if err := p.Wait(5 * time.Second); err != nil {
		t.Error(err)
	}
}
