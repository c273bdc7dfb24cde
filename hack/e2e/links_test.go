package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"ringroad/hack/lab"
)

// anyAddress listens on every address, also on those that come later.
const anyAddress = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "0.0.0.0:80", upstream: nginx}
  - {address: "[::]:80", upstream: nginx6}
upstreams:
  nginx: {servers: ["10.2.0.2:8080"], keepalive: 0}
  nginx6: {servers: ["[fd00:2::2]:8080"], keepalive: 0}
log: {access: off}
`

// change does something to an interface of a namespace.
func change(t *testing.T, n *lab.Namespace, name string, f func(netlink.Link) error) {
	t.Helper()
	err := n.Do(func() error {
		l, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return f(l)
	})
	if err != nil {
		t.Fatalf("change %s: %v", name, err)
	}
}

func addAddress(t *testing.T, name, address string) {
	t.Helper()
	changeAddress(t, name, address, netlink.AddrAdd)
}

func removeAddress(t *testing.T, name, address string) {
	t.Helper()
	changeAddress(t, name, address, netlink.AddrDel)
}

func changeAddress(t *testing.T, name, address string, f func(netlink.Link, *netlink.Addr) error) {
	t.Helper()
	change(t, shared.Edge, name, func(l netlink.Link) error {
		a, err := netlink.ParseAddr(address)
		if err != nil {
			return err
		}
		if strings.Contains(address, ":") {
			a.Flags = syscall.IFA_F_NODAD
		}
		return f(l, a)
	})
}

// shownLink is an interface as `ringroad status --json` shows it.
type shownLink struct {
	Name, State string
	MTU         int
	Addresses   []string
}

func linkOf(t *testing.T, r *lab.Ringroad, name string) shownLink {
	t.Helper()
	out, err := r.Command(stopLimit, "status", "--json")
	var s struct{ Interfaces []shownLink }
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	if err != nil {
		t.Fatalf("status: %v\n%s", err, out)
	}
	for _, i := range s.Interfaces {
		if i.Name == name {
			return i
		}
	}
	t.Fatalf("status has no interface %s:\n%s", name, out)
	return shownLink{}
}

// serves asks once, on a connection of its own.
func serves(t *testing.T, l *lab.Lab, url string) error {
	c := httpClient(t, l)
	c.Timeout = 2 * time.Second
	r, err := c.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

// soon waits until an address serves.
func soon(t *testing.T, l *lab.Lab, url string) {
	t.Helper()
	wait(t, 20*time.Second, url+" serves", func() (bool, string) {
		err := serves(t, l, url)
		return err == nil, fmt.Sprint(err)
	})
}

// TestAddressesAreFollowed gives interfaces other addresses than they had at the start.
func TestAddressesAreFollowed(t *testing.T) {
	r := start(t, anyAddress)
	pid := workerPID(t, r, 0)
	mustServe(t, shared)
	for _, a := range []struct{ prefix, url string }{
		{"10.1.0.9/24", "http://10.1.0.9/"},
		{"fd00:1::9/64", "http://[fd00:1::9]/"},
	} {
		addAddress(t, "e0", a.prefix)
		soon(t, shared, a.url)
		if addresses := fmt.Sprint(linkOf(t, r, "e0").Addresses); !strings.Contains(addresses, a.prefix) {
			t.Errorf("status shows %s, without %s", addresses, a.prefix)
		}
		removeAddress(t, "e0", a.prefix)
		wait(t, 20*time.Second, "status shows the address no more", func() (bool, string) {
			addresses := fmt.Sprint(linkOf(t, r, "e0").Addresses)
			return !strings.Contains(addresses, a.prefix), addresses
		})
		if err := serves(t, shared, a.url); err == nil {
			t.Errorf("%s serves although the address was removed", a.url)
		}
		mustServe(t, shared)
		// And once more.
		addAddress(t, "e0", a.prefix)
		soon(t, shared, a.url)
		removeAddress(t, "e0", a.prefix)
	}
	// Connections to backends come from the address that there is.
	addAddress(t, "e1", "10.2.0.7/24")
	removeAddress(t, "e1", "10.2.0.1/24") // and with it, of the same subnet, the other
	t.Cleanup(func() { addAddress(t, "e1", "10.2.0.1/24") })
	changeAddress(t, "e1", "10.2.0.7/24", func(l netlink.Link, a *netlink.Addr) error { return netlink.AddrReplace(l, a) })
	t.Cleanup(func() { removeAddress(t, "e1", "10.2.0.7/24") })
	soon(t, shared, "http://"+nginx4+"/")
	if now := workerPID(t, r, 0); now != pid {
		t.Errorf("the worker is process %d, was %d: it was replaced", now, pid)
	}
	text, err := r.Command(stopLimit, "status")
	if err != nil {
		t.Fatal(err)
	}
	mustMatch(t, text, `(?m)^ +features: XDP basic redirect`)
}

// TestInterfaceChangesReplaceWorkers changes what sockets and stacks know from their start.
func TestInterfaceChangesReplaceWorkers(t *testing.T) {
	t.Parallel()
	w, r := startPair(t)
	url := "http://" + nginx4 + "/"
	soon(t, w.Lab, url)
	both := func(change func()) {
		t.Helper()
		pids := []int{workerPID(t, r, 0), workerPID(t, r, 1)}
		change()
		replaced(t, r, 0, pids[0], 20*time.Second)
		replaced(t, r, 1, pids[1], 20*time.Second)
		soon(t, w.Lab, url)
	}
	for _, mtu := range []int{1400, 3000} { // of frames of 2 KiB, and of 4 KiB
		both(func() {
			change(t, w.Edge, "e0", func(l netlink.Link) error { return netlink.LinkSetMTU(l, mtu) })
		})
		if got := linkOf(t, r, "e0").MTU; got != mtu {
			t.Errorf("status shows MTU %d, want %d", got, mtu)
		}
	}
	mustMatch(t, r.Output(), `the workers are replaced.*interface=e0 mtu="3000, was 1400"`)

	// A queue that a socket is bound to stays: the kernel refuses to take it away.
	out, err := w.Edge.Exec("ethtool", "-L", "e0", "rx", "1", "tx", "1").CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("ethtool is not installed: the number of queues stays")
	} else if err == nil {
		t.Errorf("a queue in use was taken away: %s", out)
	}
	soon(t, w.Lab, url)

	change(t, w.Edge, "e0", func(l netlink.Link) error { return netlink.LinkSetName(l, "e9") })
	wait(t, 20*time.Second, "the new name is noticed", func() (bool, string) {
		return strings.Contains(r.Output(), "an interface was renamed"), ""
	})
	if i := linkOf(t, r, "e9"); i.State != "up" {
		t.Errorf("the renamed interface is %s", i.State)
	}
	soon(t, w.Lab, url)

	change(t, w.Edge, "e9", netlink.LinkDel)
	if err := r.Wait(stopLimit); err == nil {
		t.Error("the exit status is 0 although an interface is gone")
	}
	mustSay(t, r.Output(), `interface e0.*gone.*removed, or moved.*start ringroad again`)
}
