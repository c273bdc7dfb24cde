package guest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"ringroad/hack/lab/backend"
)

const mib = 1 << 20

// Addresses of the NIC under test and of its peer.
const (
	nut4, nut6   = "10.9.0.1", "fd09::1"
	peer4, peer6 = "10.9.0.2", "fd09::2"
)

// guest is the machine.
var guest struct {
	driver   string
	queues   []int // to be tried
	zeroCopy bool  // what the driver can do
	tellsRSS bool  // the kernel tells how the driver places flows, if it does
	nut      netlink.Link
	home     netns.NsHandle
	peer     netns.NsHandle
}

func TestMain(m *testing.M) {
	guest.driver = os.Getenv("RINGROAD_VM_DRIVER")
	if guest.driver == "" {
		return // no virtual machine of hack/vm
	}
	guest.zeroCopy = os.Getenv("RINGROAD_VM_ZERO_COPY") == "yes"
	guest.tellsRSS = os.Getenv("RINGROAD_VM_TELLS_RSS") == "yes"
	for n := range strings.SplitSeq(os.Getenv("RINGROAD_VM_QUEUES"), ",") {
		queues, err := strconv.Atoi(n)
		if err != nil {
			fmt.Fprintln(os.Stderr, "RINGROAD_VM_QUEUES:", err)
			os.Exit(1)
		}
		guest.queues = append(guest.queues, queues)
	}
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "set up the guest:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// setUp makes the network and starts the backends.
func setUp() (err error) {
	if guest.home, err = netns.Get(); err != nil {
		return err
	}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its goroutine
		var err error
		guest.peer, err = netns.New()
		made <- err
	}()
	if err := <-made; err != nil {
		return fmt.Errorf("make the peer's namespace: %w", err)
	}
	if guest.driver == "veth" {
		if err := makeVeth(); err != nil {
			return fmt.Errorf("make a veth pair: %w", err)
		}
	}
	peer, err := linkWithMAC(":02")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetNsFd(peer, int(guest.peer)); err != nil {
		return fmt.Errorf("move the peer's interface: %w", err)
	}
	err = inPeer(func() error {
		if err := bringUp(":02", "peer", peer4+"/24", peer6+"/64"); err != nil || guest.driver != "veth" {
			return err
		}
		return fillChecksums("peer") // as on the wire of a card
	})
	if err != nil {
		return err
	}
	if err := setUpNUT(); err != nil {
		return err
	}
	for _, a := range []string{peer4, peer6} {
		var ln net.Listener
		err := inPeer(func() error { ln, err = net.Listen("tcp", net.JoinHostPort(a, "8080")); return err })
		if err != nil {
			return fmt.Errorf("listen at the peer: %w", err)
		}
		server := &http.Server{Handler: backend.Handler("/tmp"), ReadHeaderTimeout: time.Minute, ConnState: noteBackendConnection}
		go server.Serve(ln) //nolint:errcheck // to the end of the machine
	}
	return nil
}

// makeVeth makes the two interfaces that a machine without cards has.
func makeVeth() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "veth0", net.HardwareAddr{0x52, 0x54, 0, 0, 0, 1}
	attrs.NumRxQueues, attrs.NumTxQueues = slices.Max(guest.queues), slices.Max(guest.queues)
	return netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "veth1", PeerHardwareAddr: net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2},
		PeerNumRxQueues: 1, PeerNumTxQueues: uint32(slices.Max(guest.queues))})
}

// backendConnections are those that the backends have.
var backendConnections sync.Map

func noteBackendConnection(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		backendConnections.Store(c, nil)
	case http.StateClosed, http.StateHijacked:
		backendConnections.Delete(c)
	}
}

// resetBackendConnections resets the connections that a ringroad has left behind. What the backends would still send on them comes in
// by the table of the next one, at any of its workers.
func resetBackendConnections() {
	backendConnections.Range(func(c, _ any) bool {
		c.(*net.TCPConn).SetLinger(0) //nolint:errcheck // it may have been closed
		c.(*net.TCPConn).Close()      //nolint:errcheck // as above
		return true
	})
}

// settle ends the connections that ringroad has to backends, and waits until the last frames of all have come in.
func (r *rig) settle(t *testing.T) {
	t.Helper()
	resetBackendConnections()
	wait(t, startLimit, "the backends have no connection", func() (bool, string) {
		n := 0
		backendConnections.Range(func(_, _ any) bool { n++; return true })
		return n == 0, fmt.Sprint(n)
	})
	r.mustBeHome(t)
}

// setUpNUT makes the interface under test ready, which has just come.
func setUpNUT() (err error) {
	if err := bringUp(":01", "nut", nut4+"/24", nut6+"/64"); err != nil {
		return err
	}
	guest.nut, err = netlink.LinkByName("nut")
	return err
}

// linkWithMAC finds an interface of the calling thread's namespace by the end of its address.
func linkWithMAC(suffix string) (netlink.Link, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		if strings.HasSuffix(l.Attrs().HardwareAddr.String(), suffix) {
			return l, nil
		}
	}
	return nil, fmt.Errorf("no interface has an address that ends in %s", suffix)
}

// bringUp names an interface of the calling thread's namespace and gives it its addresses; the loopback comes up too.
func bringUp(mac, name string, addresses ...string) error {
	link, err := linkWithMAC(mac)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetName(link, name); err != nil {
		return fmt.Errorf("name interface %s: %w", name, err)
	}
	loopback, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for setting, value := range map[string]string{"accept_dad": "0", "keep_addr_on_down": "1"} {
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+name+"/"+setting, []byte(value), 0); err != nil {
			return err
		}
	}
	for _, a := range addresses {
		parsed, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, parsed); err != nil {
			return fmt.Errorf("give %s the address %s: %w", name, a, err)
		}
	}
	return errors.Join(netlink.LinkSetUp(loopback), netlink.LinkSetUp(link))
}

// inPeer runs f on a thread in the peer's namespace.
func inPeer(f func() error) error {
	runtime.LockOSThread()
	if err := netns.Set(guest.peer); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter the peer's namespace: %w", err)
	}
	defer func() {
		if err := netns.Set(guest.home); err != nil {
			panic(fmt.Sprintf("leave the peer's namespace: %v", err))
		}
		runtime.UnlockOSThread()
	}()
	return f()
}

// wait waits until a condition holds.
func wait(t *testing.T, limit time.Duration, what string, condition func() (bool, string)) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		ok, state := condition()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %s", what, limit, state)
		}
	}
}
