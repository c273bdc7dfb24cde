package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/asavie/xdp"
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// spareLink is a further interface of the edge, for what must not touch the lab's own.
const spareLink = "x0"

// spare makes a veth pair in the edge with its first end up, and removes it at the end of the test.
func spare(t *testing.T, up bool) {
	t.Helper()
	err := shared.Edge.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = spareLink
		pair := netlink.NewVeth(attrs)
		pair.PeerName = "x1"
		if err := netlink.LinkAdd(pair); err != nil {
			return err
		}
		address, err := netlink.ParseAddr("10.9.0.1/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(pair, address); err != nil || !up {
			return err
		}
		peer, err := netlink.LinkByName("x1")
		if err != nil {
			return err
		}
		return errors.Join(netlink.LinkSetUp(pair), netlink.LinkSetUp(peer))
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := shared.Edge.Do(func() error {
			l, err := netlink.LinkByName(spareLink)
			if err != nil {
				return err
			}
			return netlink.LinkDel(l)
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// onSpare are the flags for a ringroad on the spare interface.
var onSpare = []string{"run", "--interface", spareLink, "--listen", "10.9.0.1:80", "--backend", "10.2.0.2:8080"}

// onLab are the flags for a ringroad in the lab's place.
var onLab = []string{"run", "--interface", "e0", "--interface", "e1", "--listen", "10.1.0.1:80", "--backend", "10.2.0.2:8080"}

// mustRefuse runs a command in the edge that must end with an error at once, and checks what it says: one short message with every
// pattern in it (case does not count), no trace back.
func mustRefuse(t *testing.T, argv []string, patterns ...string) {
	t.Helper()
	c := shared.Edge.Exec(argv[0], argv[1:]...)
	p, err := shared.Start(argv[0], c)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(time.Second)
	err = p.Wait(startLimit)
	var status *exec.ExitError
	if !errors.As(err, &status) || status.ExitCode() < 1 {
		t.Fatalf("%v ended with %v, want an exit status above 0; it printed:\n%s", argv, err, p.Output())
	}
	mustSay(t, p.Output(), patterns...)
	mustNotMatch(t, p.Output(), `goroutine \d+`, `(?m)^Usage:`)
}

func mustSay(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?i)" + p).MatchString(text) {
			t.Errorf("nothing says %q in:\n%s", p, text)
		}
	}
}

func TestStartErrorsSayWhatToDo(t *testing.T) {
	ringroad := func(flags []string) []string { return append([]string{binary}, flags...) }
	without := func(capabilities string, flags []string) []string {
		return append([]string{"setpriv", "--bounding-set", capabilities, binary}, flags...)
	}
	t.Run("not root", func(t *testing.T) {
		argv := append([]string{"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"}, ringroad(onLab)...)
		mustRefuse(t, argv, `CAP_(NET_ADMIN|BPF|NET_RAW)`, `root|setcap|AmbientCapabilities`)
	})
	t.Run("missing capability", func(t *testing.T) {
		mustRefuse(t, without("-net_raw", onLab), `CAP_NET_RAW`)
		mustRefuse(t, without("-bpf,-sys_admin", onLab), `CAP_BPF`)
		mustRefuse(t, without("-net_admin,-sys_admin", onLab), `CAP_NET_ADMIN`)
	})
	t.Run("unknown interface", func(t *testing.T) {
		flags := []string{"run", "--interface", "eth9", "--listen", ":80", "--backend", "10.2.0.2:8080"}
		mustRefuse(t, ringroad(flags), `eth9`, `e0`, `e1`)
	})
	t.Run("interface down", func(t *testing.T) {
		spare(t, false)
		mustRefuse(t, ringroad(onSpare), `x0.*down`, `ip link set .*x0 up`)
	})
	t.Run("another XDP program attached", func(t *testing.T) {
		spare(t, true)
		id := attachOther(t)
		mustRefuse(t, ringroad(onSpare), `x0`, `other_pass`, fmt.Sprintf(`\b%d\b`, id), `detach|unload|remove|stop|xdp off`)
		// The program that was there first stays.
		if now := programOf(t, spareLink); now != id {
			t.Errorf("program %d is attached afterwards, want %d", now, id)
		}
	})
	t.Run("second ringroad", func(t *testing.T) {
		start(t, bothFamilies)
		mustRefuse(t, ringroad(onLab), `e0`, `program`, `detach|unload|remove|stop|xdp off`)
		mustServe(t, shared)
	})
	t.Run("queue busy", func(t *testing.T) {
		spare(t, true)
		takeQueue(t)
		mustRefuse(t, ringroad(onSpare), `queue 0`, `x0`, `busy|in use|taken`, `stop|ss |other|another`)
	})
	t.Run("memory lock limit", func(t *testing.T) {
		argv := append([]string{"prlimit", "--memlock=65536:65536"}, without("-ipc_lock,-sys_resource", onLab)...)
		mustRefuse(t, argv, `lock`, `RLIMIT_MEMLOCK|ulimit -l|LimitMEMLOCK`, `CAP_IPC_LOCK|raise|unlimited`)
	})
	t.Run("own address missing", func(t *testing.T) {
		flags := []string{"run", "--interface", "e0", "--listen", "192.0.2.1:80", "--backend", "10.2.0.2:8080"}
		mustRefuse(t, ringroad(flags), `192\.0\.2\.1`, `address`)
	})
	t.Run("zero-copy that is not to be had", func(t *testing.T) {
		spare(t, true)
		file := writeFile(t, "ringroad.yaml", "interfaces: [x0]\nzero_copy: on\nlisteners: [{address: \"10.9.0.1:80\", upstream: u}]\nupstreams: {u: {servers: [\"10.9.0.2:80\"]}}\n")
		mustRefuse(t, ringroad([]string{"run", "-c", file}), `queue 0 of x0`, `zero-copy was demanded`, `veth`, `zero_copy to auto or off`)
	})
	t.Run("configuration missing", func(t *testing.T) {
		mustRefuse(t, ringroad([]string{"run", "-c", "/nowhere/ringroad.yaml"}), `/nowhere/ringroad\.yaml`, `no such file|not exist|not found`)
		mustRefuse(t, ringroad([]string{"check", "-c", "/nowhere/ringroad.yaml"}), `/nowhere/ringroad\.yaml`, `no such file|not exist|not found`)
	})
}

// attachOther attaches a program of somebody else to the spare interface and returns its id.
func attachOther(t *testing.T) ebpf.ProgramID {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "other_pass", Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2 /* XDP_PASS */), asm.Return()},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	err = shared.Edge.Do(func() error {
		l, err := net.InterfaceByName(spareLink)
		if err != nil {
			return err
		}
		attached, err := link.AttachXDP(link.XDPOptions{Program: p, Interface: l.Index})
		if err == nil {
			t.Cleanup(func() { attached.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return programOf(t, spareLink)
}

func programOf(t *testing.T, name string) (id ebpf.ProgramID) {
	t.Helper()
	err := shared.Edge.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err == nil && l.Attrs().Xdp != nil {
			id = ebpf.ProgramID(l.Attrs().Xdp.ProgId)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// takeQueue binds queue 0 of the spare interface. The queue stays busy until the interface is deleted.
func takeQueue(t *testing.T) {
	t.Helper()
	err := shared.Edge.Do(func() error {
		l, err := net.InterfaceByName(spareLink)
		if err != nil {
			return err
		}
		s, err := xdp.NewSocket(l.Index, 0, nil)
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestConfigurationErrorsNameThePlace checks what check and run say of a bad file: the line, the key and what was probably meant.
// All that there is to know about configurations is tested in proxy/config.
func TestConfigurationErrorsNameThePlace(t *testing.T) {
	const good = bothFamilies
	for _, c := range []struct {
		name, from, to string
		patterns       []string
	}{
		{"unknown key", "interfaces:", "interfeces:", []string{`:1\b`, `interfeces`, `"?interfaces\b`}},
		{"unknown nested key", "{servers: [\"10.2.0.2:8081\"]}", "{serverz: [\"10.2.0.2:8081\"]}", []string{`:11\b`, `serverz`, `servers`}},
		{"unknown value", "rx_checksum: verify", "rx_checksum: verfy", []string{`:2\b`, `rx_checksum`, `verfy`, `verify`}},
		{"wrong type", "[e0, e1]", "{a: b}", []string{`:1\b`, `interfaces`}},
		{"bad address", "10.1.0.1:81", "10.1.0.1:81000", []string{`:6\b`, `address`, `81000`}},
		{"unknown upstream", "upstream: go}", "upstream: goo}", []string{`:6\b`, `goo`, `\bgo\b`}},
		{"duration without a unit", "log:", "timeouts: {connect: 5}\nlog:", []string{`:13\b`, `connect`, `5s`}},
		{"out of range", "log:", "rings: {entries: 3}\nlog:", []string{`:13\b`, `entries`, `power of two|range|between|at least`}},
		{"not YAML", "listeners:", "listeners: [", []string{`ringroad\.yaml`}},
		{"empty", good, "", []string{`interfaces`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bad := strings.Replace(good, c.from, c.to, 1)
			if bad == good {
				t.Fatal("the case changes nothing")
			}
			path := writeFile(t, "ringroad.yaml", bad)
			for _, command := range []string{"check", "run"} {
				mustRefuse(t, []string{binary, command, "-c", path}, append(c.patterns, regexp.QuoteMeta(path))...)
			}
		})
	}
	t.Run("several at once", func(t *testing.T) {
		bad := strings.NewReplacer("interfaces:", "interfeces:", "rx_checksum: verify", "rx_checksum: 7", "log:", "lag:").Replace(good)
		path := writeFile(t, "ringroad.yaml", bad)
		mustRefuse(t, []string{binary, "check", "-c", path}, `:1\b.*interfeces`, `:2\b.*rx_checksum`, `:13\b.*lag`)
	})
	t.Run("good", func(t *testing.T) {
		path := writeFile(t, "ringroad.yaml", good)
		out, err := exec.Command(binary, "check", "-c", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "ok") {
			t.Errorf("check of a good file: %v, %s", err, out)
		}
	})
}

// TestKernelListenerOnTheSamePortIsWarnedOf starts ringroad where a server of the kernel already listens. ringroad gets the requests.
func TestKernelListenerOnTheSamePortIsWarnedOf(t *testing.T) {
	ln, err := shared.Edge.Listen("tcp", nginx4)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := start(t, bothFamilies)
	mustServe(t, shared)
	mustSay(t, r.Output(), `level=WARN.*10\.1\.0\.1:80`)
}

// TestPlainFlagsNeedNoFile is the first try that the README suggests.
func TestPlainFlagsNeedNoFile(t *testing.T) {
	p, err := shared.Start("ringroad", shared.Edge.Exec(binary, "run", "--interface", "e0", "--interface", "e1",
		"--listen", ":80", "--backend", "10.2.0.2:8080"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop(stopLimit)
	r := lab.Ringroad{Process: p}
	if err := r.WaitReady(startLimit); err != nil {
		t.Fatal(err)
	}
	for _, url := range []string{"http://" + nginx4 + "/", "http://" + nginx6 + "/"} {
		if resp, body := get(t, httpClient(t, shared), url); resp.StatusCode != 200 || body != hello {
			t.Errorf("%s: status %s, body %q", url, resp.Status, body)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(binary, "version").Output()
	if err != nil || !strings.Contains(string(out), "go1.") || !strings.Contains(string(out), "gvisor") {
		t.Errorf("version: %v, %s", err, out)
	}
}

// TestRunLeavesNoFileBehind looks at the statistics file, which is written under another name first. The lab keeps what is
// printed there, too.
func TestRunLeavesNoFileBehind(t *testing.T) {
	r := start(t, bothFamilies)
	wait(t, startLimit, "the statistics are written", func() (bool, string) {
		_, err := lab.ReadStats(r.StatsFile)
		return err == nil, fmt.Sprint(err)
	})
	r.Stop(stopLimit)
	entries, err := os.ReadDir(filepath.Dir(r.StatsFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "stats.json" && e.Name() != "ringroad.yaml" && e.Name() != filepath.Base(r.LogFile) {
			t.Errorf("left behind: %s", e.Name())
		}
	}
	if _, err := lab.ReadStats(r.StatsFile); err != nil {
		t.Error(err)
	}
}
