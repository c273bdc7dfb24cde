package config

import (
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestTable holds the table to what the rest of the package relies on.
func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	for i := range table {
		k := &table[i]
		t.Run(k.path, func(t *testing.T) {
			if seen[k.path] || k.about == "" {
				t.Error("is there twice, or says nothing")
			}
			seen[k.path] = true
			if (k.kind == section) != (k.at == nil) {
				t.Fatal("a section has no value of its own, every other key has one")
			}
			if k.fixed && strings.ContainsAny(k.path, "N") || k.fixed && strings.Contains(k.path, "[].") {
				t.Error("Fixed compares no elements of sections")
			}
			if (k.flag == "") != (k.usage == "") {
				t.Error("a flag needs a usage")
			}
			if k.def == "" {
				return
			}
			s := &scope{config: &Config{}, listener: &Listener{}, route: &Route{Redirect: &Redirect{}, Return: &Return{}}, upstream: &Upstream{}}
			p := k.at(s)
			if bad := k.set(p, k.def); bad != nil {
				t.Fatalf("default: %v", bad)
			}
			again := reflect.New(reflect.TypeOf(p).Elem()).Interface()
			if bad := k.set(again, k.text(p)[0]); bad != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("default %s is written as %s, which reads as %v (%v)", k.def, k.text(p)[0], again, bad)
			}
			for _, bound := range []string{k.min, k.max} {
				if bound == "" || k.kind == ports {
					continue
				}
				if bad := k.set(again, bound); bad != nil {
					t.Errorf("bound %s: %v", bound, bad)
				}
			}
			for _, v := range k.values {
				if bad := k.set(again, v); bad != nil {
					t.Errorf("value %s: %v", v, bad)
				}
			}
		})
	}
	var f Flags
	f.Register(flagNames{t, make(map[string]bool)}) // panics for a flag of the table that Flags lacks
}

type flagNames struct {
	t    *testing.T
	seen map[string]bool
}

func (n flagNames) add(name string) {
	if n.seen[name] {
		n.t.Errorf("flag %s is there twice", name)
	}
	n.seen[name] = true
}
func (n flagNames) StringVarP(_ *string, name, _, _, _ string)                    { n.add(name) }
func (n flagNames) StringVar(_ *string, name, _, _ string)                        { n.add(name) }
func (n flagNames) StringArrayVar(_ *[]string, name string, _ []string, _ string) { n.add(name) }

// TestValuesHaveNames holds the constants to the words of the table.
func TestValuesHaveNames(t *testing.T) {
	for path, constants := range map[string][]string{
		"xdp_mode":               {string(XDPAuto), string(XDPNative), string(XDPGeneric)},
		"zero_copy":              {string(ZeroCopyAuto), string(ZeroCopyOn), string(ZeroCopyOff)},
		"rx_checksum":            {string(RXChecksumAuto), string(RXChecksumVerify), string(RXChecksumTrust)},
		"tx_checksum":            {string(TXChecksumAuto), string(TXChecksumSoftware), string(TXChecksumOffload)},
		"filter.syn_cookies":     {string(SYNCookiesAuto), string(SYNCookiesXDP), string(SYNCookiesLoop)},
		"wait":                   {string(WaitSleep), string(WaitSpin)},
		"tcp.congestion_control": {string(Cubic), string(Reno)},
		"x_forwarded":            {string(XForwardedAppend), string(XForwardedReplace), string(XForwardedOff)},
		"upstreams.NAME.balance": {string(RoundRobin)},
		"log.format":             {string(Combined), string(JSON)},
		"forwarded":              {string(ForwardedOff), string(ForwardedAppend), string(ForwardedReplace)},

		"upstreams.NAME.proxy_protocol": {string(ProxyOff), string(ProxyV1), string(ProxyV2)},
		"listeners[].routes[].connect":  {string(Off), string(On)},
	} {
		if got := rowOf(path).values; !reflect.DeepEqual(got, constants) {
			t.Errorf("%s: table %v, constants %v", path, got, constants)
		}
	}
}

func TestDefaultsAreValid(t *testing.T) {
	c := Default()
	c.Interfaces = []string{"eth0"}
	c.Listeners = []Listener{{Address: netip.MustParseAddrPort("10.0.0.1:80"), Backlog: 4096, Routes: []Route{{Upstream: "b"}}}}
	c.Upstreams = []Upstream{
		{Name: "a", Balance: RoundRobin, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.2:80")}, KeepAliveTimeout: time.Second},
		{Name: "b", Balance: RoundRobin, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.3:80")}, KeepAliveTimeout: time.Second},
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if got := c.Listeners[0].Routes[0].UpstreamIndex; got != 1 {
		t.Errorf("upstream index %d, want 1", got)
	}
}

func TestValidateNeedsNoFile(t *testing.T) {
	c := Default()
	c.Interfaces = []string{"eth0", ""}
	c.Wait = "rest"
	c.Timeouts.Connect = 0
	c.Listeners = []Listener{{Routes: []Route{{Upstream: "b"}, {}}}}
	c.Upstreams = []Upstream{{Name: "a.b", Servers: make([]netip.AddrPort, 1)}, {Name: "a.b"}}
	want := []string{
		`listeners[0].address: is missing`,
		`listeners[0].routes[1].upstream: is missing`,
		`upstreams.a.b.servers: is missing`,
		`listeners[0].backlog: 0 is out of range: 1 to 65535`,
		`upstreams.a.b.balance: "" is not possible: the only value is round_robin`,
		`upstreams.a.b.balance: "" is not possible: the only value is round_robin`,
		`upstreams.a.b.keepalive_timeout: 0s is out of range: 1ms to 24h`,
		`upstreams.a.b.keepalive_timeout: 0s is out of range: 1ms to 24h`,
		`timeouts.connect: 0s is out of range: 1ms to 24h`,
		`wait: "rest" is not one of sleep, spin`,
		`interfaces[1]: "" is not an interface name: these have 1 to 15 characters, none of them a slash, a colon or a space`,
		`listeners[0].routes[0].upstream: no upstream is called "b"`,
		`listeners[0].routes[1]: is never reached: routes[0] takes every request that it matches`,
		`upstreams.a.b: "a.b" is not a name, or names two upstreams`,
		`upstreams.a.b.servers[0]: invalid AddrPort is no address to connect to`,
		`upstreams.a.b: "a.b" is not a name, or names two upstreams`,
	}
	if err := c.Validate(); err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
}

func TestFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "r.yaml")
	if err := os.WriteFile(file, []byte(valid+"log: {level: warn}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		flags Flags
		check func(c *Config) bool
		err   string
	}{
		{
			name:  "no file",
			flags: Flags{Interfaces: []string{"eth0", "eth1"}, Listen: []string{":80", "10.0.0.1:81"}, Backends: []string{"10.2.0.2:8080", "[fd00::2]:8080"}},
			check: func(c *Config) bool {
				return fmt.Sprint(c.Interfaces) == "[eth0 eth1]" &&
					len(c.Listeners) == 3 && c.Listeners[0].Address.String() == "0.0.0.0:80" && c.Listeners[1].Address.String() == "[::]:80" && c.Listeners[2].Address.String() == "10.0.0.1:81" &&
					c.Listeners[2].Backlog == 4096 && c.Listeners[2].Find([]byte("any"), []byte("/")).UpstreamIndex == 0 &&
					len(c.Upstreams) == 1 && fmt.Sprint(c.Upstreams[0].Servers) == "[10.2.0.2:8080 [fd00::2]:8080]" && c.Upstreams[0].KeepAlive == 256 &&
					c.Log.Level == slog.LevelInfo && c.Timeouts == Default().Timeouts
			},
		},
		{
			name:  "file",
			flags: Flags{File: file},
			check: func(c *Config) bool { return c.Interfaces[0] == "eth0" && c.Log.Level == slog.LevelWarn },
		},
		{
			name:  "flags over a file",
			flags: Flags{File: file, Interfaces: []string{"eth7", "eth8"}, LogLevel: "debug"},
			check: func(c *Config) bool {
				return fmt.Sprint(c.Interfaces) == "[eth7 eth8]" && c.Log.Level == slog.LevelDebug && len(c.Listeners) == 1
			},
		},
		{
			name:  "listeners beside a file",
			flags: Flags{File: file, Listen: []string{":80"}, Backends: []string{"10.0.0.1:80"}},
			err:   "--listen: cannot stand beside --config: listeners and upstreams are in the file\n--backend: cannot stand beside --config: listeners and upstreams are in the file",
		},
		{
			name:  "nothing",
			flags: Flags{},
			err: `--interface: is missing: name at least one network interface
--listen: is missing: name at least one address to listen on
--backend: is missing: name at least one backend`,
		},
		{
			name:  "mistakes",
			flags: Flags{Interfaces: []string{"a/b"}, Listen: []string{":0", "80", ":80"}, Backends: []string{"localhost:80", "10.0.0.1:80", "10.0.0.1:80"}, LogLevel: "inof"},
			err: `--interface: "a/b" is not an interface name: these have 1 to 15 characters, none of them a slash, a colon or a space
--listen: "0.0.0.0:0" has port 0: write a port from 1 to 65535
--listen: "80" is not an IP address with a port, such as 192.0.2.1:80 or "[2001:db8::1]:80"
--backend: "localhost:80" is a name, and names are not resolved: write an IP address and a port
--log-level: "inof" is not one of debug, info, warn, error (did you mean info?)
--backend: 10.0.0.1:80 is named twice`,
		},
		{
			name:  "same address twice",
			flags: Flags{Interfaces: []string{"eth0"}, Listen: []string{":80", "0.0.0.0:80"}, Backends: []string{"10.0.0.1:80"}},
			err:   `--listen: 0.0.0.0:80 is listened on twice`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := c.flags.Load()
			if c.err != "" {
				if err == nil || err.Error() != c.err {
					t.Errorf("got\n%v\nwant\n%s", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !c.check(got) {
				t.Errorf("got %+v", got)
			}
			again, err := Parse("again", []byte(got.YAML()))
			if err != nil {
				t.Fatalf("what YAML wrote is refused: %v\n%s", err, got.YAML())
			}
			equal(t, again, got)
		})
	}
}

// TestRoundTrip writes and reads a configuration in which no value is its default.
func TestRoundTrip(t *testing.T) {
	src, err := os.ReadFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("everything.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	c.visit(func(path string, k *key, p any) {
		if text := k.text(p); k.def != "" && len(k.values) != 1 && len(text) > 0 && text[0] == k.def {
			t.Errorf("%s is %s as by default: the test shows nothing for it", path, text)
		}
	})
	again, err := Parse("again", []byte(c.YAML()))
	if err != nil {
		t.Fatalf("%v\n%s", err, c.YAML())
	}
	equal(t, again, c)
}

func TestFixed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"nothing", func(*Config) {}, nil},
		{"what a reload can change", func(c *Config) {
			c.Listeners = append(c.Listeners, Listener{Address: netip.MustParseAddrPort("0.0.0.0:81")})
			c.Upstreams[0].KeepAlive++
			c.Limits.MaxConnections++
			c.Log = Log{Level: slog.LevelDebug, Access: "/dev/null", Format: JSON}
			c.Timeouts.WorkerShutdown++
			c.Watchdog++
		}, nil},
		{"what it cannot", func(c *Config) {
			c.RSS.Key.Bytes = make([]byte, 40)
			c.TCP.SACK = false
			c.Interfaces = []string{"eth0", "eth1"}
			c.Workers = 2
			c.CPUAffinity.CPUs = []int{1}
			c.Admin = AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:1")}
		}, []string{"interfaces", "workers", "cpu_affinity", "admin", "rss.key", "tcp.sack"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var c [2]*Config
			for i := range c {
				var err error
				if c[i], err = Parse("f", []byte(valid)); err != nil {
					t.Fatal(err)
				}
			}
			tt.change(c[1])
			if got := c[0].Fixed(c[1]); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("%v differ, want %v", got, tt.want)
			}
		})
	}
}

func TestFindRoute(t *testing.T) {
	l := Listener{Routes: []Route{
		{Host: "a.example.org", Path: "/v1/"},
		{Host: "*.example.org", Path: "/v1/"},
		{Host: "a.example.org"},
		{Host: "[fd00::1]"},
		{Path: "/static"},
		{Path: "/"},
	}}
	for _, c := range []struct {
		host, path string
		want       int // -1: none
	}{
		{"a.example.org", "/v1/x", 0},
		{"A.Example.ORG:8080", "/v1/x", 0},
		{"a.example.org.", "/v1/", 0},
		{"b.example.org", "/v1/x", 1},
		{"c.b.example.org:80", "/v1/x?q", 1},
		{".example.org", "/v1/x", 5},
		{"example.org", "/v1/x", 5},
		{"aexample.org", "/v1/x", 5},
		{"a.example.org", "/v1", 2},
		{"a.example.org", "*", 2},
		{"[FD00::1]:80", "/", 3},
		{"[fd00::1]", "/", 3},
		{"[fd00::1]x", "/", 5},
		{"", "/statics", 4},
		{"x", "/Static", 5},
		{"x", "*", -1},
		{":80", "/", 5},
	} {
		got := l.Find([]byte(c.host), []byte(c.path))
		if c.want < 0 {
			if got != nil {
				t.Errorf("%q %q: got %+v, want none", c.host, c.path, got)
			}
			continue
		}
		if got != &l.Routes[c.want] {
			t.Errorf("%q %q: got %+v, want %+v", c.host, c.path, got, l.Routes[c.want])
		}
	}
	host, path := []byte("B.Example.Org:8080"), []byte("/static/x")
	if n := testing.AllocsPerRun(100, func() { l.Find(host, path) }); n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
}

func TestTunnelsAllowed(t *testing.T) {
	l := Listener{Upgrade: []string{"websocket", "chat/2"}, Connect: true, Routes: []Route{
		{}, {Upgrade: []string{}, Connect: Off}, {Upgrade: []string{"irc"}, Connect: On},
	}}
	for _, c := range []struct {
		field string
		want  [3]bool // by route
	}{
		{"websocket", [3]bool{true, false, false}},
		{"WebSocket", [3]bool{true, false, false}},
		{"websocket, Chat/2", [3]bool{true, false, false}},
		{"websocket,irc", [3]bool{}},
		{"websocket/13", [3]bool{}},
		{"chat", [3]bool{}},
		{"irc", [3]bool{false, false, true}},
		{"irc,", [3]bool{}},
		{"", [3]bool{}},
	} {
		for i, want := range c.want {
			if got := l.MayUpgrade(&l.Routes[i], []byte(c.field)); got != want {
				t.Errorf("upgrade to %q on route %d: %t, want %t", c.field, i, got, want)
			}
		}
	}
	for i, want := range []bool{true, false, true} {
		if got := l.MayConnect(&l.Routes[i]); got != want {
			t.Errorf("CONNECT on route %d: %t, want %t", i, got, want)
		}
	}
	for _, c := range []struct {
		l    Listener
		want bool
	}{
		{l, true},
		{Listener{Connect: true, Routes: []Route{{Connect: Off}}}, false},
		{Listener{Routes: []Route{{}, {Connect: On}}}, true},
		{Listener{Routes: []Route{{}}}, false},
	} {
		if got := (&Config{Listeners: []Listener{c.l}}).Connects(); got != c.want {
			t.Errorf("%+v: connects %t, want %t", c.l, got, c.want)
		}
	}
}

var write = flag.Bool("write", false, "write the reference into README.md")

// TestReference holds README.md to the table.
func TestReference(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- config reference: begin -->\n", "<!-- config reference: end -->"
	src, err := os.ReadFile(file)
	if os.IsNotExist(err) && !*write {
		return // nothing that could differ
	}
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(src), begin)
	is, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("README.md lacks the markers %q and %q", begin, end)
	}
	want := "\n" + Reference() + "\n"
	if is == want {
		return
	}
	if !*write {
		t.Fatal("the reference in README.md differs from the table: run `go generate ./proxy/config`")
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestKeepFixed(t *testing.T) {
	used, err := ParseFile("testdata/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c := Default()
	c.Upstreams, c.Listeners = used.Upstreams, used.Listeners
	if differ := c.Fixed(used); len(differ) < 10 {
		t.Fatalf("only %v differ before: the test shows nothing", differ)
	}
	drain := c.Timeouts.Drain
	c.KeepFixed(used)
	if differ := c.Fixed(used); differ != nil {
		t.Errorf("%v still differ", differ)
	}
	if c.Timeouts.Drain != drain || drain == used.Timeouts.Drain {
		t.Errorf("timeouts.drain became %v: it is not fixed", c.Timeouts.Drain)
	}
}
