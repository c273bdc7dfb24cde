package lab

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"ringroad/dataplane"
)

// DialWorker connects the client to a listener of ringroad from a local port whose connections a certain one of its workers serves.
// Only emulated RSS makes that known beforehand. Each call takes another port.
func (l *Lab) DialWorker(worker, workers int, listener string, limit time.Duration) (c net.Conn, err error) {
	to := netip.MustParseAddrPort(listener)
	local := Client4
	if to.Addr().Is6() {
		local = Client6
	}
	table := dataplane.DefaultRSS(l.options.RSS, l.options.Queues)
	for {
		from := netip.AddrPortFrom(local, nextClientPort())
		if table.Queue(from, to)%workers != worker {
			continue
		}
		err = l.Client.Do(func() error {
			c, err = (&net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from), Timeout: limit}).Dial("tcp", listener)
			return err
		})
		if !errors.Is(err, syscall.EADDRINUSE) { // not closed long enough
			return c, err
		}
	}
}

// clientPorts counts the ports that DialWorker has used. They are some that the client's kernel does not give out itself.
var clientPorts atomic.Uint32

func nextClientPort() uint16 {
	const first, ports = 2000, 8000
	return uint16(first + clientPorts.Add(1)%ports)
}
