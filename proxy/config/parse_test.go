package config

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// valid is a configuration that the invalid documents of the tests extend.
const valid = `interfaces: [eth0]
listeners:
  - address: 0.0.0.0:80
    upstream: app
upstreams:
  app: {servers: [10.0.0.2:8080]}
`

func TestParseExample(t *testing.T) {
	src, err := os.ReadFile("testdata/example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse("example.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Interfaces = []string{"eth0"}
	want.Admin = AdminAddress{TCP: netip.MustParseAddrPort("127.0.0.1:9901")}
	want.Listeners = []Listener{{
		Address: netip.MustParseAddrPort("0.0.0.0:80"),
		Backlog: 4096,
		Upgrade: []string{"websocket"},
		Routes: []Route{
			{Host: "api.example.org", Path: "/v1/", Upstream: "api", UpstreamIndex: 1},
			{Upstream: "app", UpstreamIndex: 0},
		},
	}}
	want.Upstreams = []Upstream{
		{
			Name: "app", Balance: RoundRobin, KeepAlive: 256, KeepAliveTimeout: time.Minute, KeepAliveRequests: 1000, ProxyProtocol: ProxyOff,
			Servers: []netip.AddrPort{netip.MustParseAddrPort("10.2.0.2:8080"), netip.MustParseAddrPort("10.2.0.3:8080")},
		},
		{
			Name: "api", Balance: RoundRobin, KeepAlive: 256, KeepAliveTimeout: time.Minute, KeepAliveRequests: 1000, ProxyProtocol: ProxyOff,
			Servers: []netip.AddrPort{netip.MustParseAddrPort("[2001:db8::2]:8080")},
		},
	}
	want.Timeouts = Timeouts{
		ClientHeader: time.Minute, ClientBody: time.Minute, ClientSend: time.Minute, KeepAlive: 75 * time.Second, Linger: 5 * time.Second,
		Connect: 5 * time.Second, BackendRead: time.Minute, BackendSend: time.Minute, Tunnel: time.Hour, Drain: 30 * time.Second,
		WorkerShutdown: 5 * time.Second,
	}
	want.Limits = Limits{MaxConnections: 65536, RequestLineBytes: 8 << 10, FieldsBytes: 32 << 10, FieldCount: 100, KeepAliveRequests: 1000, ChunkExtensionBytes: 256, ChunkOverheadBytes: 16 << 10, TrailerBytes: 8 << 10, TrailerCount: 32,
		Client: ClientLimits{Status: 429, PrefixIPv4: 32, PrefixIPv6: 64, Entries: 65536}}
	want.Filter = Filter{IPv4Prefix: 32, IPv6Prefix: 64, SYNCookies: SYNCookiesAuto}
	want.Forwarded = ForwardedOff
	want.Log = Log{Level: slog.LevelInfo, Access: "/var/log/ringroad/access.log", Format: Combined}
	equal(t, got, want)
}

// equal compares what two configurations say, not where.
func equal(t *testing.T, got, want *Config) {
	t.Helper()
	a, b := *got, *want
	a.origin, b.origin = origin{}, origin{}
	if !reflect.DeepEqual(a, b) {
		t.Errorf("got  %+v\nwant %+v", a, b)
	}
}

func TestParseReportsEveryMistake(t *testing.T) {
	for _, c := range []struct {
		name, src string
		want      []string
	}{
		{"unknown key", valid + "wokers: 1\n", []string{`f:7:1: wokers: unknown key (did you mean workers?)`}},
		{"unknown key, hyphen and case", valid + "timeouts: {Client-Header: 5s}\n", []string{`f:7:12: timeouts.Client-Header: unknown key (did you mean client_header?)`}},
		{"unknown key, nothing near", valid + "colour: red\n", []string{`f:7:1: colour: unknown key`}},
		{"key of another section", valid + "backlog: 10\n", []string{`f:7:1: backlog: unknown key (did you mean listeners[].backlog?)`}},
		{"key twice", valid + "via: on\nvia: off\n", []string{`f:8:1: via: is given twice: first in line 7`}},
		{"upstream twice", valid + "  app: {servers: [10.0.0.3:8080]}\n", []string{`f:7:3: upstreams.app: is given twice: first in line 6`}},
		{"section expected", valid + "limits: 5\n", []string{`f:7:9: limits: is the value "5": here belong keys, each with a colon and a value`}},
		{"list for a section", valid + "limits: [1]\n", []string{`f:7:9: limits: is a list: here belong keys, each with a colon and a value`}},
		{"section for a value", valid + "via:\n  on: 1\n", []string{`f:8:3: via: is a section with keys: here belongs one value`}},
		{"block text for a value", valid + "log:\n  access: |\n    /x\n", []string{`f:8:11: log.access: is a block of text: here belongs one value`}},
		{"value for a list", strings.Replace(valid, "[eth0]", "eth0", 1), []string{`f:1:13: interfaces: is one value: a list stands in brackets (did you mean [eth0]?)`}},
		{"section for a list", strings.Replace(valid, "[eth0]", "{eth0: 1}", 1), []string{`f:1:13: interfaces: is a section with keys: here belongs a list`}},
		{"empty list", strings.Replace(valid, "[eth0]", "[]", 1), []string{`f:1:13: interfaces: is an empty list`}},
		{"HTTP as an upgrade", strings.Replace(valid, "upstream: app", "upgrade: [h2c, http/2.0, a b, a/]\n    upstream: app", 1), []string{
			`f:4:15: listeners[0].upgrade[0]: "h2c" is HTTP again: its requests would pass without being looked at`,
			`f:4:20: listeners[0].upgrade[1]: "http/2.0" is HTTP again: its requests would pass without being looked at`,
			`f:4:30: listeners[0].upgrade[2]: "a b" is not a protocol: write a name such as websocket, or a name, a slash and a version`,
			`f:4:35: listeners[0].upgrade[3]: "a/" is not a protocol: write a name such as websocket, or a name, a slash and a version`,
		}},
		{"no value", valid + "via:\n", []string{`f:7:6: via: has no value`}},
		{"duration without unit", valid + "timeouts:\n  connect: 5\n", []string{`f:8:12: timeouts.connect: "5" has no unit (did you mean 5s?)`}},
		{"duration zero without unit", valid + "tcp: {ack_delay: 0}\n", []string{`f:7:18: tcp.ack_delay: "0" has no unit (did you mean 0s?)`}},
		{"no duration", valid + "timeouts:\n  connect: soon\n", []string{`f:8:12: timeouts.connect: "soon" is not a duration: write a number and a unit, such as 100ms, 5s, 10m or 1h30m`}},
		{"negative duration", valid + "timeouts:\n  connect: -5s\n", []string{`f:8:12: timeouts.connect: "-5s" is negative`}},
		{"duration out of range", valid + "timeouts:\n  connect: 0s\n  drain: 48h\n", []string{
			`f:8:12: timeouts.connect: 0s is out of range: 1ms to 24h`,
			`f:9:10: timeouts.drain: 48h is out of range: 1ms to 24h`,
		}},
		{"ambiguous size", valid + "limits: {body: 5MB}\n", []string{`f:7:16: limits.body: "5MB" may mean powers of 1000 or of 1024 (did you mean 5MiB?)`}},
		{"no size", valid + "limits: {body: 5.5MiB, fields: 3X}\n", []string{
			`f:7:16: limits.body: "5.5MiB" is not a size: write bytes, or a number with KiB, MiB or GiB`,
			`f:7:32: limits.fields: "3X" is not a size: the suffixes are KiB, MiB and GiB (or k, m, g)`,
		}},
		{"size overflow", valid + "limits: {body: 9999999999GiB, fields: 3GiB}\n", []string{
			`f:7:16: limits.body: 9999999999GiB is too large`,
			`f:7:39: limits.fields: 3GiB is too large`,
		}},
		{"size out of range", valid + "limits: {fields: 10}\n", []string{`f:7:18: limits.fields: 10 is out of range: 256 to 1MiB`}},
		{"no count", valid + "limits: {field_count: 0x10, max_connections: 1_000}\n", []string{
			`f:7:23: limits.field_count: "0x10" is not a whole number`,
			`f:7:46: limits.max_connections: "1_000" is not a whole number`,
		}},
		{"octal look-alike", valid + "limits: {field_count: 0100}\n", []string{`f:7:23: limits.field_count: "0100" is not a whole number`}},
		{"prefixes", valid + "filter: {deny: [10.0.0.1/8, '::1/129', example.org, '::ffff:1.2.3.4', 'fe80::1%eth0', 192.0.2.7]}\n", []string{
			`f:7:17: filter.deny[0]: "10.0.0.1/8" has address bits behind its prefix: 10.0.0.0/8 is meant, or 10.0.0.1 (did you mean 10.0.0.0/8?)`,
			`f:7:29: filter.deny[1]: "::1/129" is not a prefix: write an IP address, or one with its bits, such as 192.0.2.0/24 or "2001:db8::/32"`,
			`f:7:40: filter.deny[2]: "example.org" is not a prefix: write an IP address, or one with its bits, such as 192.0.2.0/24 or "2001:db8::/32"`,
			`f:7:53: filter.deny[3]: "::ffff:1.2.3.4" is of IPv4 addresses in IPv6 form: write it in IPv4 form`,
			`f:7:71: filter.deny[4]: "fe80::1%eth0" is not a prefix: write an IP address, or one with its bits, such as 192.0.2.0/24 or "2001:db8::/32"`,
		}},
		{"limits of the filter", valid + "filter: {connection_rate: -1, packet_burst: 5, ipv4_prefix: 33}\n", []string{
			`f:7:27: filter.connection_rate: "-1" is not a whole number`,
			`f:7:45: filter.packet_burst: belongs to filter.packet_rate, which is not set`,
			`f:7:61: filter.ipv4_prefix: 33 is out of range: 0 to 32`,
		}},
		{"workers", valid + "workers: 65\n", []string{`f:7:10: workers: 65 is out of range: auto, or 1 to 64`}},
		{"affinity", valid + "cpu_affinity: 1\n", []string{`f:7:15: cpu_affinity: is one value: a list stands in brackets (did you mean [1]?)`}},
		{"affinity in a list", valid + "cpu_affinity: [1, auto, off, -1, x, 9999]\n", []string{
			`f:7:19: cpu_affinity[1]: "auto" stands alone, without brackets`,
			`f:7:25: cpu_affinity[2]: "off" stands alone, without brackets`,
			`f:7:30: cpu_affinity[3]: "-1" is not the number of a CPU: 0 to 8191`,
			`f:7:34: cpu_affinity[4]: "x" is not the number of a CPU: 0 to 8191`,
			`f:7:37: cpu_affinity[5]: "9999" is not the number of a CPU: 0 to 8191`,
		}},
		{"empty affinity", valid + "cpu_affinity: []\n", []string{`f:7:15: cpu_affinity: is an empty list`}},
		{"user", valid + "user: a b\n", []string{`f:7:7: user: "a b" is not the name or number of a user`}},
		{"user of -1", valid + "user: 4294967295\n", []string{`f:7:7: user: 4294967295 is too large for the number of a user`}},
		{"watchdog", valid + "watchdog: 100ms\n", []string{`f:7:11: watchdog: 100ms is out of range: 1s to 10m`}},
		{"no key", valid + "rss: {key: 6d-5a}\n", []string{`f:7:12: rss.key: "6d-5a" is not a key: write auto, off, or bytes in hexadecimal with colons, such as 6d:5a:56:da`}},
		{"odd key", valid + "rss: {key: '6d:5:a0'}\n", []string{`f:7:12: rss.key: "6d:5:a0" is not a key: write auto, off, or bytes in hexadecimal with colons, such as 6d:5a:56:da`}},
		{"short key", valid + "rss: {key: '6d:5a'}\n", []string{`f:7:12: rss.key: a key of 2 bytes is too short: 40 at least`}},
		{"listener among backend ports", strings.Replace(valid, "0.0.0.0:80", "0.0.0.0:29999", 1), []string{
			`f:3:14: listeners[0].address: port 29999 is one of backend_ports, 10000-29999: frames for the one would be taken for the other`,
		}},
		{"word", valid + "zero_copy: atuo\nwait: 5\n", []string{
			`f:7:12: zero_copy: "atuo" is not one of auto, on, off (did you mean auto?)`,
			`f:8:7: wait: "5" is not one of sleep, spin`,
		}},
		{"only word", strings.Replace(valid, "servers:", "balance: randmo, servers:", 1), []string{`f:6:18: upstreams.app.balance: "randmo" is not possible: the only value is round_robin`}},
		{"level", valid + "log: {level: Debgu}\n", []string{`f:7:14: log.level: "Debgu" is not one of debug, info, warn, error (did you mean debug?)`}},
		{"boolean", valid + "via: perhaps\n", []string{`f:7:6: via: "perhaps" is neither on nor off`}},
		{"ports", valid + "backend_ports: 20000\n", []string{`f:7:16: backend_ports: "20000" is not a range of ports: write FIRST-LAST, such as 10000-29999`}},
		{"ports reversed", valid + "backend_ports: 3000-2000\n", []string{`f:7:16: backend_ports: the range 3000-2000 ends before it begins (did you mean 2000-3000?)`}},
		{"ports out of range", valid + "backend_ports: 81-2000\n", []string{`f:7:16: backend_ports: 81-2000 is out of range: 1024 to 65535`}},
		{"interface", strings.Replace(valid, "[eth0]", "[eth0, eth0, a/b, a-very-long-name]", 1), []string{
			`f:1:20: interfaces[1]: eth0 is named twice`,
			`f:1:26: interfaces[2]: "a/b" is not an interface name: these have 1 to 15 characters, none of them a slash, a colon or a space`,
			`f:1:31: interfaces[3]: "a-very-long-name" is not an interface name: these have 1 to 15 characters, none of them a slash, a colon or a space`,
		}},
		{"address without address", strings.Replace(valid, "0.0.0.0:80", ":80", 1), []string{`f:3:14: listeners[0].address: ":80" has no address: write 0.0.0.0:80 for all IPv4 addresses, "[::]:80" for all IPv6 addresses`}},
		{"address without port", strings.Replace(valid, "0.0.0.0:80", "0.0.0.0", 1), []string{`f:3:14: listeners[0].address: "0.0.0.0" has no port: write it as 0.0.0.0:80`}},
		{"address with port 0", strings.Replace(valid, "0.0.0.0:80", "0.0.0.0:0", 1), []string{`f:3:14: listeners[0].address: "0.0.0.0:0" has port 0: write a port from 1 to 65535`}},
		{"address with a port too large", strings.Replace(valid, "0.0.0.0:80", "0.0.0.0:80000", 1), []string{`f:3:14: listeners[0].address: "0.0.0.0:80000" has port 80000: write a port from 1 to 65535`}},
		{"address with zone", strings.Replace(valid, "0.0.0.0:80", `"[fe80::1%eth0]:80"`, 1), []string{`f:3:14: listeners[0].address: "[fe80::1%eth0]:80" has a zone: addresses of one link cannot be used`}},
		{"IPv4 in IPv6", strings.Replace(valid, "0.0.0.0:80", `"[::ffff:10.0.0.1]:80"`, 1), []string{`f:3:14: listeners[0].address: "[::ffff:10.0.0.1]:80" is an IPv4 address in IPv6 form (did you mean 10.0.0.1:80?)`}},
		{"multicast", strings.Replace(valid, "10.0.0.2:8080", "224.0.0.1:80", 1), []string{`f:6:19: upstreams.app.servers[0]: "224.0.0.1:80" is a multicast address`}},
		{"brackets without quotes", strings.Replace(valid, "0.0.0.0:80", "[::]:80", 1), []string{`f:3:18: cannot be read as YAML: value is not allowed in this context (did you mean "[::]:80"?)`}},
		{"name of a backend", strings.Replace(valid, "10.0.0.2:8080", "backend.local:80, localhost, 10.0.0.1:80", 1), []string{
			`f:6:19: upstreams.app.servers[0]: "backend.local:80" is a name, and names are not resolved: write an IP address and a port`,
			`f:6:37: upstreams.app.servers[1]: "localhost" is a name, and names are not resolved: write an IP address and a port`,
		}},
		{"twice behind unreadable ones", strings.Replace(valid, "10.0.0.2:8080", "x, ~, [y], 10.0.0.1:80, 10.0.0.1:80", 1), []string{
			`f:6:19: upstreams.app.servers[0]: "x" is a name, and names are not resolved: write an IP address and a port`,
			`f:6:22: upstreams.app.servers[1]: has no value`,
			`f:6:25: upstreams.app.servers[2]: is a list: here belongs one value`,
			`f:6:43: upstreams.app.servers[4]: 10.0.0.1:80 is named twice`,
		}},
		{"IPv6 backend without brackets", strings.Replace(valid, "10.0.0.2:8080", "fd00::1", 1), []string{`f:6:19: upstreams.app.servers[0]: "fd00::1" has no port: write it as "[fd00::1]:80"`}},
		{"backend nowhere, twice, itself", strings.Replace(strings.Replace(valid, "10.0.0.2:8080", "0.0.0.0:80, 10.0.0.1:80, 10.0.0.1:80, 10.0.0.9:80", 1), "address: 0.0.0.0:80", "address: 10.0.0.9:80", 1), []string{
			`f:6:19: upstreams.app.servers[0]: 0.0.0.0:80 is no address to connect to`,
			`f:6:44: upstreams.app.servers[2]: 10.0.0.1:80 is named twice`,
			`f:6:57: upstreams.app.servers[3]: 10.0.0.9:80 is listeners[0]: requests would go round for ever`,
		}},
		{"listener twice", strings.Replace(valid, "upstreams:", "  - {address: 0.0.0.0:80, upstream: app}\nupstreams:", 1), []string{`f:5:15: listeners[1].address: 0.0.0.0:80 is listened on twice`}},
		{"unknown upstream", strings.Replace(valid, "upstream: app", "upstream: ap", 1), []string{`f:4:15: listeners[0].upstream: no upstream is called "ap" (did you mean app?)`}},
		{"listener without upstream", strings.Replace(valid, "    upstream: app\n", "", 1), []string{`f:3:5: listeners[0].upstream: is missing: a listener names an upstream, or routes that do`}},
		{"mistyped key is not missing too", strings.Replace(valid, "upstream: app", "upstraem: app", 1), []string{`f:4:5: listeners[0].upstraem: unknown key (did you mean upstream?)`}},
		{"listener without address", strings.Replace(valid, "address: 0.0.0.0:80", "backlog: 1", 1), []string{`f:3:5: listeners[0].address: is missing`}},
		{"upstream beside routes", strings.Replace(valid, "upstream: app", "upstream: app\n    routes: [{upstream: app}]", 1), []string{`f:5:5: listeners[0].routes: cannot stand beside upstream: as the last route, without host and path, an upstream takes what no other route matches`}},
		{"routes", strings.Replace(valid, "upstream: app", `routes:
      - {host: "a.org:80", path: v1, upstream: app}
      - {host: fd00::1, path: "/a?b", upstream: app}
      - {host: "a.*.org", path: "/ü", upstream: app}
      - {host: "*", path: /}
      - app`, 1), []string{
			`f:5:16: listeners[0].routes[0].host: "a.org:80" has a port: the port is the listener's (did you mean a.org?)`,
			`f:5:34: listeners[0].routes[0].path: "v1" does not begin with a slash (did you mean /v1?)`,
			`f:6:16: listeners[0].routes[1].host: "fd00::1" is an IPv6 address without brackets (did you mean "[fd00::1]"?)`,
			`f:6:31: listeners[0].routes[1].path: "/a?b" has a query or a fragment: only the path is compared`,
			`f:7:16: listeners[0].routes[2].host: "a.*.org" is not a host: a star stands at the beginning only, as in "*.example.org"`,
			`f:7:33: listeners[0].routes[2].path: "/ü" has characters that a request target never has: write them as %XX`,
			`f:8:9: listeners[0].routes[3].upstream: is missing`,
			`f:8:16: listeners[0].routes[3].host: "*" is not a host: a star stands at the beginning only, as in "*.example.org"`,
			`f:9:9: listeners[0].routes[4]: is the value "app": here belong keys, each with a colon and a value`,
		}},
		{"route never reached", strings.Replace(valid, "upstream: app", `routes:
      - {host: "*.a.org", upstream: app}
      - {host: b.a.org, path: /x, upstream: app}
      - {path: /v1, upstream: app}
      - {path: /v1/a, upstream: app}
      - {upstream: app}`, 1), []string{
			`f:6:9: listeners[0].routes[1]: is never reached: routes[0] takes every request that it matches`,
			`f:8:9: listeners[0].routes[3]: is never reached: routes[2] takes every request that it matches`,
		}},
		{"two ways, and none", strings.Replace(valid, "upstream: app", `routes:
      - {path: /a, upstream: app, redirect: {location: /b}}
      - {path: /c, redirect: {location: /b}, return: {status: 200}}
      - {path: /d, redirect: {status: 301}, upstraem: app}
      - {path: /e, return: {body: x}}
      - {path: /f}`, 1), []string{
			`f:5:9: listeners[0].routes[0]: has more than one of upstream, redirect and return: a request goes one way`,
			`f:6:9: listeners[0].routes[1]: has more than one of upstream, redirect and return: a request goes one way`,
			`f:7:20: listeners[0].routes[2].redirect.location: is missing`,
			`f:7:45: listeners[0].routes[2].upstraem: unknown key (did you mean upstream?)`,
			`f:8:20: listeners[0].routes[3].return.status: is missing`,
			`f:9:9: listeners[0].routes[4].upstream: is missing`,
		}},
		{"redirects", strings.Replace(valid, "upstream: app", `routes:
      - {path: /a, redirect: {status: 300, location: /b}}
      - {path: /b, redirect: {location: //evil.example}}
      - {path: /c, redirect: {location: /$request_uri}}
      - {path: /d, redirect: {location: $request_uri}}
      - {path: /e, redirect: {location: "https://$request_uri"}}
      - {path: /f, redirect: {location: "https://$hots/"}}
      - {path: /g, redirect: {location: "/a b"}}
      - {path: /h, redirect: {location: /a$}}
      - {path: /i, redirect: /b}`, 1), []string{
			`f:5:39: listeners[0].routes[0].redirect.status: "300" is not one of 301, 302, 303, 307, 308 (did you mean 301?)`,
			`f:6:41: listeners[0].routes[1].redirect.location: "//evil.example" does not begin with http://HOST, https://HOST (a name, an address or $host) or one slash`,
			`f:7:41: listeners[0].routes[2].redirect.location: "/$request_uri" does not begin with http://HOST, https://HOST (a name, an address or $host) or one slash`,
			`f:8:41: listeners[0].routes[3].redirect.location: "$request_uri" does not begin with http://HOST, https://HOST (a name, an address or $host) or one slash`,
			`f:9:41: listeners[0].routes[4].redirect.location: "https://$request_uri" does not begin with http://HOST, https://HOST (a name, an address or $host) or one slash`,
			`f:10:41: listeners[0].routes[5].redirect.location: no variable is called $hots: there are $host, $remote_addr, $request_uri, $scheme`,
			`f:11:41: listeners[0].routes[6].redirect.location: "/a b" has characters that an address never has: write them as %XX`,
			`f:12:41: listeners[0].routes[7].redirect.location: a dollar begins a variable, $host, $remote_addr, $request_uri, $scheme; two of them are a dollar`,
			`f:13:30: listeners[0].routes[8].redirect: is the value "/b": here belong keys, each with a colon and a value`,
		}},
		{"fixed answers", strings.Replace(valid, "upstream: app", `routes:
      - {path: /a, return: {status: 302}}
      - {path: /b, return: {status: 204, body: x}}
      - {path: /c, return: {status: 101}}
      - {path: /d, return: {status: 200, body: x, type: text}}
      - {path: /e, return: {status: 200, type: "text/plain\r\nX: y", body: x}}`, 1), []string{
			`f:5:37: listeners[0].routes[0].return.status: 302 needs a Location (did you mean redirect?)`,
			`f:6:48: listeners[0].routes[1].return.body: an answer 204 has no body (RFC 9110 15)`,
			`f:7:37: listeners[0].routes[2].return.status: 101 is out of range: 200 to 599`,
			`f:8:57: listeners[0].routes[3].return.type: "text" is not a media type such as text/plain`,
			`f:9:48: listeners[0].routes[4].return.type: "text/plain\r\nX: y" is not a media type such as text/plain`,
		}},
		{"fields", strings.Replace(valid, "upstream: app", `upstream: app
    request:
      set: {Host: "$host", Content-Length: 5, a b: c, X-A: "", X-B: " x", X-C: "a\r\nb", X-D: $x, X-E: é}
      add: {host: a, TE: trailers, x-f: a}
      remove: [HOST, connection, Via, X-F, x-f]
    response:
      set: {Transfer-Encoding: chunked, Date: now}
      add: [a]
      remove: [""]`, 1), []string{
			`f:6:19: listeners[0].request.set.Host: "$host" is not a host, with or without a port`,
			`f:6:44: listeners[0].request.set.Content-Length: Content-Length cannot be changed: it says where the body ends, which the proxy decides (RFC 9112 6)`,
			`f:6:52: listeners[0].request.set."a b": "a b" is not a field name`,
			`f:6:60: listeners[0].request.set.X-A: is empty: to leave a field out, name it in remove`,
			`f:6:69: listeners[0].request.set.X-B: " x" has spaces around it`,
			`f:6:80: listeners[0].request.set.X-C: "a\r\nb" has characters that a field value never has`,
			`f:6:95: listeners[0].request.set.X-D: no variable is called $x: there are $host, $remote_addr, $request_uri, $scheme`,
			`f:6:104: listeners[0].request.set.X-E: "é" has characters that a field value never has`,
			`f:7:19: listeners[0].request.add.host: Host cannot be added: a request has exactly one (RFC 9112 3.2)`,
			`f:7:26: listeners[0].request.add.TE: TE cannot be changed: it is for one connection, not for the message (RFC 9110 7.6.1)`,
			`f:7:41: listeners[0].request.add.x-f: x-f is named in remove[4] already`,
			`f:8:16: listeners[0].request.remove[0]: Host cannot be removed: a request has exactly one (RFC 9112 3.2)`,
			`f:8:22: listeners[0].request.remove[1]: connection cannot be changed: it is for one connection, not for the message (RFC 9110 7.6.1)`,
			`f:8:34: listeners[0].request.remove[2]: Via cannot be changed: the key via adds it`,
			`f:8:44: listeners[0].request.remove[4]: x-f is named in remove[3] already`,
			`f:10:32: listeners[0].response.set.Transfer-Encoding: Transfer-Encoding cannot be changed: it says where the body ends, which the proxy decides (RFC 9112 6)`,
			`f:10:47: listeners[0].response.set.Date: Date cannot be changed: the proxy adds it where it is missing (RFC 9110 6.6.1)`,
			`f:11:12: listeners[0].response.add: is a list: here belong keys, each with a colon and a value`,
			`f:12:16: listeners[0].response.remove[0]: is empty`,
		}},
		{"error pages", valid + "error_pages: {302: a.html, 502: a.php, x: a.html, 503: [a.html]}\n", []string{
			`f:7:20: error_pages.302: "302" is not the status of an error: 400 to 599`,
			`f:7:33: error_pages.502: the type of a.php is not known: name it .html, .txt, .json, .xml or .svg`,
			`f:7:43: error_pages.x: "x" is not the status of an error: 400 to 599`,
			`f:7:56: error_pages.503: is a list: here belongs one value`,
		}},
		{"route timeouts", strings.Replace(valid, "upstream: app", `routes: [{upstream: app, timeouts: {connect: 0s, backend_read: 25h, drain: 1s}}]`, 1), []string{
			`f:4:50: listeners[0].routes[0].timeouts.connect: 0s is out of range: 1ms to 24h`,
			`f:4:68: listeners[0].routes[0].timeouts.backend_read: 25h is out of range: 1ms to 24h`,
			`f:4:73: listeners[0].routes[0].timeouts.drain: unknown key (did you mean timeouts.drain?)`,
		}},
		{"star without quotes", strings.Replace(valid, "upstream: app", "routes: [{host: *.a.org, upstream: app}]", 1), []string{`f:4:21: listeners[0].routes[0].host: a value that begins with a star stands in quotes (YAML aliases are not used) (did you mean "*.a.org"?)`}},
		{"name of an upstream", valid + "  a b: {servers: [10.0.0.1:80]}\n", []string{`f:7:3: upstreams."a b": "a b" is not a name: use letters, digits, - and _`}},
		{"upstream without servers", valid + "  b:\n", []string{`f:7:3: upstreams.b.servers: is missing`}},
		{"rings", valid + "rings: {entries: 1000, frame_bytes: 3KiB}\n", []string{
			`f:7:18: rings.entries: 1000 is not a power of two: 512 and 1024 are next to it`,
			`f:7:37: rings.frame_bytes: 3KiB is neither 2KiB nor 4KiB: the kernel takes frames of these sizes only`,
		}},
		{"frames", valid + "rings: {entries: 1024, frames: 2049}\n", []string{`f:7:32: rings.frames: 2049 is more than rings of 1024 entries can hold: 2048, half for receiving and half for sending`}},
		{"buffers", valid + "tcp:\n  receive_buffer: {min: 1MiB}\n  send_buffer: {max: 8KiB}\n", []string{
			`f:8:3: tcp.receive_buffer.default: 256KiB is less than tcp.receive_buffer.min, 1MiB`,
			`f:9:22: tcp.send_buffer.max: 8KiB is less than tcp.send_buffer.default, 256KiB`,
		}},
		{"anchor and tag", valid + "via: &x on\nx_forwarded: !!str off\n", []string{
			`f:7:6: via: YAML anchors are not used`,
			`f:8:14: x_forwarded: YAML tags are not used`,
		}},
		{"relative socket", valid + "admin: unix:admin.sock\n", []string{
			`f:7:8: admin: "unix:admin.sock" is not the path of a socket: write it in full, such as unix:/run/ringroad/admin.sock`,
		}},
		{"empty", "# nothing\n", []string{
			`f: interfaces: is missing: name at least one network interface`,
			`f: listeners: is missing: name at least one address to listen on`,
			`f: upstreams: is missing: name at least one backend`,
		}},
		{"no mapping", "ringroad\n", []string{`f:1:1: is the value "ringroad": here belong keys, each with a colon and a value`}},
		{"two documents", valid + "---\nvia: on\n", []string{`f:8:4: a second document: a configuration is one document, without --- in between`}},
		{"no YAML", "a: [1\n", []string{`f:1:4: cannot be read as YAML: sequence end token ']' not found`}},
		{"tab", valid + "limits:\n\tbody: 1\n", []string{`f:8:1: cannot be read as YAML: found character '\t' that cannot start any token`}},
		{"NUL", "a\n\x00", []string{`f:2:1: holds a NUL byte: this is not a text file`}},
		{"deep", "a: " + strings.Repeat("[", 1000), []string{`f:1:1: brackets are nested too deeply`}},
		{"long", strings.Repeat("#", maxFileBytes+1), []string{`f:1:1: is longer than 1MiB`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Parse("f", []byte(c.src))
			if err == nil || got != nil {
				t.Fatalf("accepted: %+v", got)
			}
			if want := strings.Join(c.want, "\n"); err.Error() != want {
				t.Errorf("got\n%s\nwant\n%s", err, want)
			}
		})
	}
}

func TestErrorsAreTyped(t *testing.T) {
	_, err := Parse("f", []byte(valid+"wokers: 1\n"))
	var one *Error
	if !errors.As(err, &one) {
		t.Fatalf("%T holds no *Error", err)
	}
	want := Error{Position: Position{File: "f", Line: 7, Column: 1}, Key: "wokers", Message: "unknown key", Nearest: "workers"}
	if *one != want {
		t.Errorf("got %+v, want %+v", *one, want)
	}
}

func TestParseAccepts(t *testing.T) {
	for name, c := range map[string]struct {
		src  string
		want func(c *Config) bool
	}{
		"byte order mark":     {"\ufeff" + valid, func(c *Config) bool { return len(c.Interfaces) == 1 }},
		"carriage returns":    {strings.ReplaceAll(valid, "\n", "\r\n"), func(c *Config) bool { return c.Interfaces[0] == "eth0" }},
		"section of comments": {valid + "limits:\n  # body: 1\n", func(c *Config) bool { return c.Limits == Default().Limits }},
		"document start":      {"---\n" + valid, func(c *Config) bool { return len(c.Listeners) == 1 }},
		"quoted numbers":      {valid + "limits: {field_count: \"64\"}\n", func(c *Config) bool { return c.Limits.FieldCount == 64 }},
		"sizes": {valid + "limits: {body: 3g, fields: 16 KiB, request_line: 4096}\n", func(c *Config) bool {
			return c.Limits.BodyBytes == 3<<30 && c.Limits.FieldsBytes == 16<<10 && c.Limits.RequestLineBytes == 4096
		}},
		"durations": {valid + "timeouts: {connect: 100ms, drain: 1h30m, keepalive: 5m}\n", func(c *Config) bool {
			return c.Timeouts.Connect == 100*time.Millisecond && c.Timeouts.Drain == 90*time.Minute && c.Timeouts.KeepAlive == 5*time.Minute
		}},
		"no upgrades": {strings.Replace(valid, "upstream: app", "upstream: app\n    upgrade: []", 1), func(c *Config) bool {
			u := c.Listeners[0].Upgrade
			return u != nil && len(u) == 0 && !c.Listeners[0].MayUpgrade(&c.Listeners[0].Routes[0], []byte("websocket"))
		}},
		"upgrades replace the default": {strings.Replace(valid, "upstream: app", "upstream: app\n    upgrade: [IRC/6.9]", 1), func(c *Config) bool {
			return reflect.DeepEqual(c.Listeners[0].Upgrade, []string{"irc/6.9"})
		}},
		"no ACK delay": {valid + "tcp: {ack_delay: 0s}\n", func(c *Config) bool { return c.TCP.ACKDelay == 0 }},
		"booleans":     {valid + "via: true\ntcp: {sack: off, rack: no}\n", func(c *Config) bool { return c.Via && !c.TCP.SACK && !c.TCP.RACK }},
		"auto over a default": {valid + "rings: {frames: auto, frame_bytes: 4KiB}\nworkers: auto\nadmin: off\n", func(c *Config) bool {
			return c.Rings.Frames == 0 && c.Rings.FrameBytes == 4096 && c.Workers == 0 && c.Admin == AdminAddress{}
		}},
		"admin on a socket": {valid + "admin: unix:/run/a/../admin.sock\n", func(c *Config) bool {
			return c.Admin == AdminAddress{Path: "/run/admin.sock"} && c.Admin.String() == "unix:/run/admin.sock"
		}},
		"affinity off":   {valid + "cpu_affinity: off\n", func(c *Config) bool { return c.CPUAffinity.Off && c.CPUAffinity.CPUs == nil }},
		"affinity auto":  {valid + "cpu_affinity: auto\n", func(c *Config) bool { return reflect.DeepEqual(c.CPUAffinity, Affinity{}) }},
		"affinity":       {valid + "cpu_affinity: [3, 1]\n", func(c *Config) bool { return reflect.DeepEqual(c.CPUAffinity, Affinity{CPUs: []int{3, 1}}) }},
		"user by number": {valid + "user: 65534\n", func(c *Config) bool { return c.User == "65534" }},
		"placement off":  {valid + "rss: {key: off}\n", func(c *Config) bool { return c.RSS.Key.Off }},
		"placement auto": {valid + "rss: {key: auto}\n", func(c *Config) bool { return reflect.DeepEqual(c.RSS.Key, RSSKey{}) }},
		"key without quotes": {valid + "rss:\n  key: 6d" + strings.Repeat(":5A", 39) + "\n", func(c *Config) bool {
			b := c.RSS.Key.Bytes
			return len(b) == 40 && b[0] == 0x6d && b[39] == 0x5a
		}},
		"key of digits": {valid + "rss: {key: 10" + strings.Repeat(":20", 39) + "}\n", func(c *Config) bool {
			b := c.RSS.Key.Bytes
			return len(b) == 40 && b[0] == 0x10 && b[39] == 0x20
		}},
		"interface like a number": {strings.Replace(valid, "[eth0]", "[0, true]", 1), func(c *Config) bool { return c.Interfaces[0] == "0" && c.Interfaces[1] == "true" }},
		"list in lines":           {strings.Replace(valid, "{servers: [10.0.0.2:8080]}", "\n    servers:\n      - 10.0.0.2:8080\n      - \"[fd00::1]:8080\"\n", 1), func(c *Config) bool { return c.Upstreams[0].Servers[1] == netip.MustParseAddrPort("[fd00::1]:8080") }},
		"host in capitals":        {strings.Replace(valid, "upstream: app", `routes: [{host: "*.Example.ORG.", upstream: app}]`, 1), func(c *Config) bool { return c.Listeners[0].Routes[0].Host == "*.example.org" }},
		"access log off":          {valid + "log: {access: off}\n", func(c *Config) bool { return c.Log.Access == "" }},
		"both families":           {strings.Replace(valid, "upstreams:", "  - {address: \"[::]:80\", upstream: app}\nupstreams:", 1), func(c *Config) bool { return c.Listeners[1].Address == netip.MustParseAddrPort("[::]:80") }},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse("f", []byte(c.src))
			if err != nil {
				t.Fatal(err)
			}
			if !c.want(got) {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestParseFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.yaml")
	if _, err := ParseFile(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := ParseFile(t.TempDir()); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("directory: %v", err)
	}
	if _, err := ParseFile("/dev/zero"); err == nil || !strings.Contains(err.Error(), "longer than 1MiB") {
		t.Errorf("endless file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(valid))
	for _, name := range []string{"testdata/example.yaml", "testdata/everything.yaml"} {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	for _, s := range []string{"a: &b [*b]\n", "? [a]\n: b\n", "<<: {a: 1}\n", "listeners: [[], {routes: [{}]}, 5]\n", "upstreams: {a: , b: {servers: [a:b]}}", "a: |\n x\n", "{a: {b: [c: d]}}", "\ufeff---\n...\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := Parse("f", src)
		if (c == nil) == (err == nil) {
			t.Fatalf("Parse returned %v and %v", c, err)
		}
		if err != nil {
			var list Errors
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("%T is no Errors", err)
			}
			return
		}
		again, err := Parse("again", []byte(c.YAML()))
		if err != nil {
			t.Fatalf("what YAML wrote is refused: %v\n%s", err, c.YAML())
		}
		equal(t, again, c)
	})
}
