package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/restore"
	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
	"ringroad/proxy/config"
)

// configured is a configuration with one interface, listener and upstream, changed
// by f.
func configured(f func(*config.Config)) *config.Config {
	c := config.Default()
	c.Interfaces = []string{"eth0"}
	c.Listeners = []config.Listener{{Address: netip.MustParseAddrPort("192.0.2.1:80")}}
	c.Upstreams = []config.Upstream{{Name: "app", Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.9:80"), netip.MustParseAddrPort("192.0.2.10:80")}}}
	if f != nil {
		f(c)
	}
	return c
}

// card is a NIC on which nothing is wrong, changed by f.
func card(f func(*nic)) nic {
	n := nic{name: "eth0", Inspection: &dataplane.Inspection{
		Link: dataplane.LinkInfo{Name: "eth0", Driver: "igb", Index: 2, MTU: 1500, RXQueues: 4, Features: dataplane.Features{
			Known: true, XDP: dataplane.XDPBasic | dataplane.XDPRedirect | dataplane.XDPZeroCopy, ZeroCopySegments: 1,
		}},
		Up: true, Carrier: true,
	}, addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, offloads: map[string]bool{"rx-lro": false}, maxQueues: 4}
	if f != nil {
		f(&n)
	}
	return n
}

// TestFindings gives each check what it judges, and compares what is not ok: a line
// for each finding, its severity, check and subject, and a part of its text and
// remedy.
func TestFindings(t *testing.T) {
	running := &instance{status: control.Status{PID: 42, Interfaces: []control.Interface{{Name: "eth0"}}}}
	failure := errors.New("no such thing")
	changes := []restore.Change{
		{Interface: "eth0", Setting: dataplane.SettingRSS, Before: "weight 3 1", After: "equal 2"},
		{Interface: "eth1", Setting: dataplane.SettingTXChecksum, Before: "on", After: "off", Fix: true},
		{Interface: "eth0", Setting: dataplane.SettingChannels, Before: "combined 4", After: "combined 2"},
	}
	interfaces := func(c *config.Config, n nic, i *instance) func(*Report) {
		return func(r *Report) { r.interfaces(c, []nic{n}, i) }
	}
	to := func(f func(*way)) *way {
		w := &way{route: &dataplane.Route{}, by: "eth0", neighbour: netip.MustParseAddr("192.0.2.9"), resolved: true}
		f(w)
		return w
	}
	backends := func(first, second *way) func(*Report) {
		return func(r *Report) {
			c := configured(nil)
			r.backends(c, map[netip.AddrPort]*way{c.Upstreams[0].Servers[0]: first, c.Upstreams[0].Servers[1]: second})
		}
	}
	good := to(func(*way) {})
	for name, c := range map[string]struct {
		check func(*Report)
		want  []string // severity check subject: text; remedy
	}{
		"a good host":             {func(r *Report) { r.kernel(kernelFacts{features: []feature{{name: "memfd"}}}) }, nil},
		"a capability is missing": {func(r *Report) { r.kernel(kernelFacts{capabilities: failure}) }, []string{"problem capabilities: no such thing; sudo"}},
		"a feature is missing":    {func(r *Report) { r.kernel(kernelFacts{features: []feature{{"memfd", failure, "Linux 3.17"}}}) }, []string{"problem kernel memfd: no such thing; Linux 3.17"}},

		"memory may be locked": {func(r *Report) { r.memory(configured(nil), []nic{card(nil)}, memoryFacts{locked: 48 << 20}) }, nil},
		"memory may not":       {func(r *Report) { r.memory(configured(nil), []nic{card(nil)}, memoryFacts{locked: 20<<20 - 1}) }, []string{"problem memory: pin 28.0 MiB; ulimit -l 28672"}},
		"no limit counts":      {func(r *Report) { r.memory(configured(nil), []nic{card(nil)}, memoryFacts{privileged: true}) }, nil},
		"memory is short": {func(r *Report) {
			r.memory(configured(nil), []nic{card(nil)}, memoryFacts{privileged: true, available: 1 << 20})
		}, []string{"problem memory: only 1.0 MiB; rings.entries"}},
		"a CPU is not allowed": {func(r *Report) {
			r.processors(configured(func(c *config.Config) { c.CPUAffinity.CPUs = []int{0, 9} }), []nic{card(nil)}, processorFacts{allowed: []int{0, 1, 2, 3, 4}})
		}, []string{"problem processors: CPUs [9]; cpu_affinity"}},
		"CPUs are shared": {func(r *Report) { r.processors(configured(nil), []nic{card(nil)}, processorFacts{allowed: []int{0, 1}}) }, []string{"warning processors: 4 workers share 2 CPUs; workers: 2"}},
		"CPUs of interfaces that are not there": {func(r *Report) {
			r.processors(configured(nil), []nic{{name: "eth0"}}, processorFacts{allowed: []int{0, 1}})
		}, nil},
		"the clock changes": {func(r *Report) {
			r.processors(configured(nil), []nic{card(nil)}, processorFacts{allowed: []int{0, 1, 2, 3, 4}, governors: map[int]string{0: "performance", 1: "powersave"}})
		}, []string{"warning governor: CPUs [1]; cpupower"}},
		"the user does not exist": {func(r *Report) {
			r.files(configured(func(c *config.Config) { c.User = "no-such-user"; c.Log.Access = "" }))
		}, []string{"problem user no-such-user: does not exist; "}},
		"the log has no folder": {func(r *Report) {
			r.files(configured(func(c *config.Config) { c.User = "0"; c.Log.Access = "/nonexistent/a.log" }))
		}, []string{"problem access log /nonexistent/a.log: no such file; mkdir -p /nonexistent"}},

		"a good interface":           {interfaces(configured(nil), card(nil), nil), nil},
		"no interface":               {interfaces(configured(nil), nic{name: "eth0", err: dataplane.ErrNoInterface}, nil), []string{"problem interface eth0: no such interface; ip -br link"}},
		"not Ethernet":               {interfaces(configured(nil), card(func(n *nic) { n.Kind = dataplane.ErrNotEthernet }), nil), []string{"problem interface eth0: not an Ethernet; ip -br link"}},
		"down":                       {interfaces(configured(nil), card(func(n *nic) { n.Up = false }), nil), []string{"problem link eth0: it is down; ip link set dev eth0 up"}},
		"no carrier":                 {interfaces(configured(nil), card(func(n *nic) { n.Carrier = false }), nil), []string{"problem link eth0: no carrier; ethtool eth0"}},
		"another program":            {interfaces(configured(nil), card(func(n *nic) { n.Attached = dataplane.ErrProgramAttached }), nil), []string{"problem xdp eth0: another XDP program; ip link set dev eth0 xdp off"}},
		"a program of a link":        {interfaces(configured(nil), card(func(n *nic) { n.Attached, n.Holder = dataplane.ErrProgramAttached, 7 }), nil), []string{"problem xdp eth0: another XDP program; bpftool link detach id 7"}},
		"our own program":            {interfaces(configured(nil), card(func(n *nic) { n.Attached = dataplane.ErrProgramAttached }), running), nil},
		"sockets of another program": {interfaces(configured(nil), card(func(n *nic) { n.bound = []int{0, 2} }), nil), []string{"problem sockets eth0: queues [0 2]; end that program"}},
		"our own sockets":            {interfaces(configured(nil), card(func(n *nic) { n.bound = []int{0, 2} }), running), nil},
		"no native mode":             {interfaces(configured(nil), card(func(n *nic) { n.Link.Features.XDP = dataplane.XDPBasic }), nil), []string{"warning xdp eth0: generic mode is several times slower; another NIC"}},
		"native mode is demanded":    {interfaces(configured(func(c *config.Config) { c.XDPMode = config.XDPNative }), card(func(n *nic) { n.Link.Features.XDP = dataplane.XDPBasic }), nil), []string{"problem xdp eth0: no native mode; xdp_mode: auto"}},
		"too many workers":           {interfaces(configured(func(c *config.Config) { c.Workers = 8 }), card(nil), nil), []string{"problem queues eth0: 4 receive queues; ethtool -L eth0 combined 8"}},
		"unequal workers":            {interfaces(configured(func(c *config.Config) { c.Workers = 3 }), card(nil), nil), []string{"warning queues eth0: one more than others; ethtool -L eth0 combined 3"}},
		"an MTU too large":           {interfaces(configured(nil), card(func(n *nic) { n.Link.MTU, n.Link.Frags = 9217, true; n.Link.Features.XDP |= dataplane.XDPFrags }), nil), []string{"problem mtu eth0: MTU too large: 9217, at most 9216; mtu 1500"}},
		"jumbo frames":               {interfaces(configured(nil), card(func(n *nic) { n.Link.MTU, n.Link.Frags = 9000, true; n.Link.Features.XDP |= dataplane.XDPFrags }), nil), nil},
		"jumbo frames in one buffer": {interfaces(configured(nil), card(func(n *nic) { n.Link.MTU, n.Link.Frags = 9000, true }), nil), []string{"warning xdp eth0: no native mode for an MTU of 9000: generic mode; another NIC"}},
		"frames too small":           {interfaces(configured(func(c *config.Config) { c.Rings.FrameBytes = 2048 }), card(func(n *nic) { n.Link.MTU = 3000 }), nil), []string{"problem mtu eth0: frames of 3022 bytes; rings.frame_bytes: auto"}},
		"offloads":                   {interfaces(configured(nil), card(func(n *nic) { n.offloads = map[string]bool{"rx-lro": true, "rx-gro-hw": true} }), nil), []string{"warning offloads eth0: lro, rx-gro-hw merges; ethtool -K eth0 lro off && ethtool -K eth0 rx-gro-hw off"}},
		"flows are placed anyhow":    {interfaces(configured(nil), card(func(n *nic) { n.rss = dataplane.ErrUnsupported }), nil), []string{"warning rss eth0: handed over; rss.key"}},
		"one worker needs no RSS":    {interfaces(configured(func(c *config.Config) { c.Workers = 1 }), card(func(n *nic) { n.rss = dataplane.ErrUnsupported }), nil), nil},
		"no zero-copy":               {interfaces(configured(func(c *config.Config) { c.ZeroCopy = config.ZeroCopyOn }), card(func(n *nic) { n.Link.Features.XDP &^= dataplane.XDPZeroCopy }), nil), []string{"problem zero-copy eth0: driver igb does not offer it; zero_copy: auto"}},
		"interrupts on one CPU":      {interfaces(configured(nil), card(func(n *nic) { n.interrupts = []int{1, 1, 1} }), nil), []string{"warning interrupts eth0: all 3 go to CPU 1; smp_affinity_list"}},
		"a veth that verifies": {interfaces(configured(func(c *config.Config) { c.RXChecksum = config.RXChecksumVerify }), card(func(n *nic) {
			n.Link.Driver, n.Peer, n.peer, n.peerOffloads = "veth", "eth1", &net.Interface{MTU: 1500}, map[string]bool{"tx-checksum-ip-generic": true}
		}), nil), []string{"problem checksums eth0: its segments are dropped; ethtool -K eth1 tx-checksum-ip-generic off"}},
		"a veth whose other end sends by more queues": {interfaces(configured(nil), card(func(n *nic) {
			n.Link.Driver, n.Peer, n.peer, n.peerQueues = "veth", "eth1", &net.Interface{MTU: 1500}, 8
		}), nil), []string{"warning peer eth0: sends by 8 queues and it receives by 4; ethtool -L eth1 tx 4"}},
		"a veth whose other end sends larger frames": {interfaces(configured(nil), card(func(n *nic) {
			n.Link.Driver, n.Peer, n.peer, n.peerQueues = "veth", "eth1", &net.Interface{MTU: 9000}, 4
		}), nil), []string{"warning peer eth0: has MTU 9000 and it 1500; ip link set dev eth1 mtu 1500"}},
		"a veth whose other end has no qdisc": {interfaces(configured(nil), card(func(n *nic) {
			n.Link.Driver, n.Peer, n.peer, n.peerQueues, n.PeerUnqueued = "veth", "eth1", &net.Interface{MTU: 1500}, 4, true
		}), nil), []string{"warning peer eth0: has no queueing discipline; tc qdisc replace dev eth1 root mq"}},
		"the same in generic mode": {interfaces(configured(func(c *config.Config) { c.XDPMode = config.XDPGeneric }), card(func(n *nic) {
			n.Link.Driver, n.Peer, n.peer, n.peerQueues, n.PeerUnqueued = "veth", "eth1", &net.Interface{MTU: 1500}, 4, true
		}), nil), []string{"warning xdp eth0: xdp_mode is generic; xdp_mode: auto"}},
		"an even table":               {interfaces(configured(nil), card(func(n *nic) { n.table = dataplane.Indirection{0, 1, 2, 3} }), nil), nil},
		"even for two workers":        {interfaces(configured(func(c *config.Config) { c.Workers = 2 }), card(func(n *nic) { n.table = dataplane.Indirection{0, 0, 1, 1} }), nil), nil},
		"even over all their queues":  {interfaces(configured(func(c *config.Config) { c.Workers = 2 }), card(func(n *nic) { n.table = dataplane.Indirection{0, 1, 2, 3} }), nil), nil},
		"a worker gets nothing":       {interfaces(configured(nil), card(func(n *nic) { n.table = dataplane.Indirection{0, 1, 2, 0} }), nil), []string{"warning spread eth0: gives 4 workers on 4 queues different shares; ethtool -X eth0 equal 4"}},
		"a worker has one queue more": {interfaces(configured(func(c *config.Config) { c.Workers = 3 }), card(func(n *nic) { n.table = dataplane.Indirection{0, 1, 2, 3} }), nil), []string{"warning spread eth0: 3 workers on 4 queues; ethtool -X eth0 equal 3"}},
		"a veth":                      {interfaces(configured(nil), card(func(n *nic) { n.Link.Driver = "veth" }), nil), nil},
		"a veth that trusts":          {interfaces(configured(func(c *config.Config) { c.RXChecksum = config.RXChecksumTrust }), card(func(n *nic) { n.Link.Driver = "veth" }), nil), []string{"warning checksums eth0: a corrupted segment is delivered; rx_checksum: auto"}},

		"settings of one that died": {func(r *Report) { r.settings(changes, false) }, []string{
			"warning settings eth0: has left channels as combined 2, it was combined 4; ethtool -L eth0 combined 4",
			"warning settings eth0: has left rss as equal 2, it was weight 3 1; ethtool -X eth0 weight 3 1",
		}},
		"settings of one that runs": {func(r *Report) { r.settings(changes, true) }, nil},

		"ports overlap at their end": {func(r *Report) {
			r.ephemeral(config.PortRange{First: 30000, Last: 33000}, config.PortRange{First: 32768, Last: 60999})
		}, []string{"warning ephemeral ports: 30000-33000 overlap; ip_local_port_range='33001 60999'"}},
		"ports overlap at their start": {func(r *Report) {
			r.ephemeral(config.PortRange{First: 60000, Last: 65535}, config.PortRange{First: 32768, Last: 60999})
		}, []string{"warning ephemeral ports: ; ip_local_port_range='32768 59999'"}},
		"ports take all": {func(r *Report) {
			r.ephemeral(config.PortRange{First: 1024, Last: 65535}, config.PortRange{First: 32768, Last: 60999})
		}, []string{"warning ephemeral ports: ; backend_ports"}},
		"ports are apart": {func(r *Report) {
			r.ephemeral(config.PortRange{First: 10000, Last: 29999}, config.PortRange{First: 32768, Last: 60999})
		}, nil},

		"a listener without address": {func(r *Report) { r.listeners(configured(nil), []nic{card(func(n *nic) { n.addresses = nil })}) }, []string{"problem listener 192.0.2.1:80: nobody reaches it; ip address add 192.0.2.1/PREFIX dev eth0"}},
		"a listener for any address": {func(r *Report) {
			r.listeners(configured(func(c *config.Config) { c.Listeners[0].Address = netip.MustParseAddrPort("[::]:80") }), []nic{card(nil)})
		}, []string{"warning listener [::]:80: address of its family; ip address add ADDRESS"}},

		"good backends":          {backends(good, good), nil},
		"a backend on this host": {backends(to(func(w *way) { w.local = "lo" }), good), []string{"problem backend 192.0.2.9:80: address of this host (lo); another host"}},
		"no route":               {backends(to(func(w *way) { w.route = nil }), good), []string{"problem backend 192.0.2.9:80: no route; ip route get 192.0.2.9"}},
		"no neighbour":           {backends(to(func(w *way) { w.resolved = false }), good), []string{"problem backend 192.0.2.9:80: no ARP or ND; ip neigh show dev eth0"}},
		"one of two is silent":   {backends(to(func(w *way) { w.connect = failure }), good), []string{"warning backend 192.0.2.9:80: no such thing; start the server"}},
		"none of the two answers": {backends(to(func(w *way) { w.connect = failure }), to(func(w *way) { w.connect = failure })),
			[]string{"problem backend 192.0.2.9:80: no such thing; ", "problem backend 192.0.2.10:80: no such thing; "}},

		"a good instance": {func(r *Report) {
			r.instance(&instance{status: control.Status{State: control.StateRunning, Workers: []control.Worker{{State: "serving"}}}})
		}, nil},
		"an instance with troubles": {func(r *Report) {
			r.instance(&instance{
				status: control.Status{State: control.StateRunning, Configuration: control.Configuration{File: "/etc/r.yaml", Error: "bad"},
					Workers: []control.Worker{{Index: 0, State: "waiting"}, {Index: 1, State: "serving", Restarts: 3}}},
				stats: worker.Snapshot{
					Stack: map[string]uint64{"syn_dropped": 7},
					Interfaces: []worker.InterfaceStats{{Verdicts: map[string]uint64{"drop_no_socket": 2}, Queues: []worker.QueueStats{
						{Kernel: map[string]uint64{"fill_ring_empty": 3}}, {Kernel: map[string]uint64{"fill_ring_empty": 4}, Ours: map[string]uint64{"tx_no_frame": 1}},
					}}},
				},
			})
		}, []string{
			"warning reload: failed; ringroad check -c /etc/r.yaml", "problem worker 0: it is waiting; standard error", "warning worker 1: died 3 times; standard error",
			"warning buffers drop_no_socket: 2 frames; ringroad status", "warning buffers fill_ring_empty: 7 times; rings.entries",
			"warning buffers syn_dropped: 7 SYNs; backlog", "warning buffers tx_no_frame: 1 times; rings.frames",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var r Report
			c.check(&r)
			matches(t, r, c.want)
		})
	}
}

// matches compares the findings that are not ok with what is expected of them.
func matches(t *testing.T, r Report, want []string) {
	t.Helper()
	bad := slices.DeleteFunc(slices.Clone(r), func(f Finding) bool { return f.Severity == OK })
	if len(bad) != len(want) {
		t.Fatalf("%d findings, want %d:\n%+v", len(bad), len(want), bad)
	}
	for i, f := range bad {
		text, remedy, _ := strings.Cut(want[i], "; ")
		head, text, _ := strings.Cut(text, ": ")
		if got := strings.TrimSpace(fmt.Sprint(f.Severity, " ", f.Check, " ", f.Subject)); got != head || !strings.Contains(f.Text, text) || !strings.Contains(f.Remedy, remedy) {
			t.Errorf("got %+v\nwant %s", f, want[i])
		}
	}
}

// TestCountersExist compares the names in the table with those that a worker shows.
func TestCountersExist(t *testing.T) {
	links := []worker.Link{{Queues: []int{0}}}
	page, file, err := worker.NewPage(links)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	defer page.Close()
	s := worker.NewSnapshot(time.Now(), []worker.InterfaceStats{{Verdicts: map[string]uint64{}}})
	s.Add(worker.Stats{PID: 1}, page, new(worker.Ended), []worker.Queue{{}}, nil)
	for v := range bpf.NumVerdicts {
		s.Interfaces[0].Verdicts[bpf.Verdict(v).String()] = 0
	}
	q := &s.Interfaces[0].Queues[0]
	for _, m := range []map[string]uint64{s.Stack, s.Proxy, s.Handover, s.Interfaces[0].Verdicts, q.Ours, q.Kernel, q.Link} {
		for name := range m {
			m[name] = 1
		}
	}
	q.Kernel["rx_dropped"] = 2 // that of the empty fill ring is among them
	for _, f := range fulls {
		if f.count(s) != 1 {
			t.Errorf("no worker counts %s", f.name)
		}
	}
}

func TestText(t *testing.T) {
	var r Report
	r.ok("link", "eth0", "up")
	r.add(Problem, "memory", "", "too little", "ulimit -l 1")
	r.add(Fixed, "spread", "eth0", "uneven", "ethtool -X eth0 equal 2")
	var b bytes.Buffer
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if want := "ok       link eth0: up\nproblem  memory: too little; mend: ulimit -l 1\nfixed    spread eth0: uneven; mended: ethtool -X eth0 equal 2\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

// TestLeftSocket finds a socket that a killed instance left behind.
func TestLeftSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	var r Report
	if i := r.findInstance(t.Context(), path); i != nil || len(r) != 1 || r[0].Severity != OK {
		t.Errorf("no socket: %+v", r)
	}
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	// The name stays when the listener is closed under another one.
	if err := os.Rename(path, path+".kept"); err != nil {
		t.Fatal(err)
	}
	l.Close()
	r = nil
	if i := r.findInstance(t.Context(), path+".kept"); i != nil {
		t.Errorf("found %+v", i)
	}
	matches(t, r, []string{"warning instance: killed or crashed; the next run replaces it"})
}
