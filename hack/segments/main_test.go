//go:build segments

package segments

import (
	"fmt"
	"net/netip"
	"os"
	"testing"

	"ringroad/hack/lab"
)

var (
	shared                *lab.Lab
	farClient, farBackend *lab.Namespace // behind the client and the backend, which route
	cable                 *wire

	peer4, peer6 = netip.MustParseAddr("10.1.0.77"), netip.MustParseAddr("fd00:1::77")
)

// The kernel remembers path MTUs by the address: a peer that tells of one has an address of its own, the next of these.
var lone4, lone6 = netip.MustParseAddr("10.1.0.100"), netip.MustParseAddr("fd00:1::100")

const lonePeers = 100

// Ports of the two servers in the edge.
const (
	ringroadPort = 80
	nginxPort    = 90
)

const ringroadConfig = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "10.1.0.1:80", upstream: nginx}
  - {address: "[fd00:1::1]:80", upstream: nginx}
  - {address: "10.1.0.1:81", upstream: go}
  - {address: "[fd00:1::1]:81", upstream: go}
  - {address: "10.1.0.1:82", upstream: far}
  - {address: "[fd00:1::1]:83", upstream: far6}
upstreams:
  nginx: {servers: ["10.2.0.2:8080"]}
  go: {servers: ["10.2.0.2:8081"]}
  far: {servers: ["10.9.0.2:8080"]}
  far6: {servers: ["[fd00:9::2]:8080"]}
log: {access: off}
`

const nginxConfig = `	upstream b { server {{.Backend4}}:{{.Port}}; keepalive 64; }
	server {
		listen 10.1.0.1:90 backlog=8192;
		listen [fd00:1::1]:90 backlog=8192;
		location / {
			proxy_pass http://b;
			proxy_http_version 1.1;
			proxy_set_header Connection "";
			proxy_ignore_client_abort on;
		}
	}
`

func TestMain(m *testing.M) {
	lab.Child()
	status, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

func run(m *testing.M) (status int, err error) {
	shared, err = lab.Up(lab.Options{Files: map[string]int64{"64k": 64 << 10, "1m": 1 << 20}})
	if err != nil {
		return 1, err
	}
	defer func() {
		if e := shared.Close(); e != nil {
			status, err = 1, e
		}
	}()
	lab.CloseOnSignal(130, shared)
	if farClient, _, _, err = shared.Behind(shared.Client, 8); err != nil {
		return 1, err
	}
	if farBackend, _, _, err = shared.Behind(shared.Backend, 9); err != nil {
		return 1, err
	}
	peers := []netip.Addr{peer4, peer6}
	for a, b, i := lone4, lone6, 0; i < lonePeers; a, b, i = a.Next(), b.Next(), i+1 {
		peers = append(peers, a, b)
	}
	if cable, err = newWire(shared, peers...); err != nil {
		return 1, err
	}
	if _, err := shared.StartNginx(shared.Edge, "edge", 1, nginxConfig, nil); err != nil {
		return 1, err
	}
	if err := shared.Client.WaitTCP("10.1.0.1:90", patience); err != nil {
		return 1, err
	}
	binary, err := lab.BuildRingroad(shared.Dir)
	if err != nil {
		return 1, err
	}
	r, err := shared.StartRingroad(binary, ringroadConfig)
	if err != nil {
		return 1, err
	}
	if err := r.WaitReady(patience * 2); err != nil {
		return 1, err
	}
	status = m.Run()
	if status != 0 {
		fmt.Println(r.Output())
	}
	return status, cable.close()
}

// newPeer is a peer that has the address and port, as a Linux client would connect.
func newPeer(local netip.AddrPort, to uint16) *peer {
	remote := lab.EdgeToClient4
	if local.Addr().Is6() {
		remote = lab.EdgeToClient6
	}
	p := &peer{
		w: cable, local: local, remote: netip.AddrPortFrom(remote, to),
		isn: 1_000_000, next: 1_000_000, window: 500, stamps: true, stamp: 5_000_000,
		options: []byte{2, 4, 5, 180, 4, 2, 1, 3, 3, 7},
	}
	p.in = cable.open(p.local)
	return p
}
