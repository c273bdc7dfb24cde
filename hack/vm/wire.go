package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// Hardware addresses of a machine's interfaces; package guest knows them by their last byte.
const (
	nutMAC  = "52:54:00:00:00:01" // the NIC under test
	peerMAC = "52:54:00:00:00:02"
)

// wire joins the two interfaces of a machine.
type wire interface {
	arguments(nic string) []string
	start(*exec.Cmd) error
	close() error
}

// nicDevices are the devices of qemu by the driver that Linux has for them. Zero-copy on virtio_net wants platform DMA.
var nicDevices = map[string]string{
	"igb":        "igb",
	"virtio_net": "virtio-net-pci,iommu_platform=on,disable-legacy=on",
}

// veth is no card: the machine makes the two interfaces and the wire itself.
type veth struct{}

func (veth) arguments(string) []string { return nil }
func (veth) start(c *exec.Cmd) error   { return c.Start() }
func (veth) close() error              { return nil }

// hub is a wire inside qemu, which needs no privilege. Interfaces whose queues qemu itself does not make (virtio) have one.
type hub struct{}

func (hub) arguments(nic string) []string {
	return []string{
		"-netdev", "hubport,id=nut,hubid=0", "-device", nicDevices[nic] + ",netdev=nut,romfile=,mac=" + nutMAC,
		"-netdev", "hubport,id=peer,hubid=0", "-device", nicDevices["virtio_net"] + ",netdev=peer,romfile=,mac=" + peerMAC,
	}
}

func (hub) start(c *exec.Cmd) error { return c.Start() }
func (hub) close() error            { return nil }

// bridge is a wire of two taps on a bridge, in a network namespace of its own without a name: it goes with the last that is in it. That
// of the interface under test has several queues.
type bridge struct {
	queues int
	ns     netns.NsHandle
}

// newBridge makes one. It needs root.
func newBridge(queues int) (b *bridge, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("a network namespace needs root")
	}
	b = &bridge{queues: queues, ns: netns.None()}
	err = b.aside(func() error {
		if b.ns, err = netns.New(); err != nil {
			return fmt.Errorf("make a network namespace: %w", err)
		}
		return b.build()
	})
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

// aside runs f on a thread that may go to another namespace, and takes it back.
func (b *bridge) aside(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = errors.Join(f(), netns.Set(home), home.Close())
	if err == nil {
		runtime.UnlockOSThread() // a thread that did not come home ends with its goroutine
	}
	return err
}

func (b *bridge) build() error {
	between := netlink.NewLinkAttrs()
	between.Name = "wire"
	wire := &netlink.Bridge{LinkAttrs: between}
	if err := netlink.LinkAdd(wire); err != nil {
		return fmt.Errorf("make a bridge: %w", err)
	}
	for name, queues := range map[string]int{"nut": b.queues, "peer": 1} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MasterIndex = name, wire.Index
		tap := &netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TAP, Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_VNET_HDR}
		if queues > 1 {
			tap.Flags |= netlink.TUNTAP_MULTI_QUEUE
		}
		tap.NonPersist = false
		if err := netlink.LinkAdd(tap); err != nil {
			return fmt.Errorf("make tap %s: %w", name, err)
		}
		if err := netlink.LinkSetMaster(tap, wire); err != nil {
			return fmt.Errorf("put tap %s on the bridge: %w", name, err)
		}
		if err := netlink.LinkSetUp(tap); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(wire)
}

func (b *bridge) arguments(nic string) []string {
	const tap = "tap,script=no,downscript=no,vhost=off"
	several := fmt.Sprintf(",mq=on,vectors=%d,rss=on", 2*b.queues+2)
	return []string{
		"-netdev", fmt.Sprintf("%s,id=nut,ifname=nut,queues=%d", tap, b.queues), "-device", nicDevices[nic] + ",netdev=nut,romfile=,mac=" + nutMAC + several,
		"-netdev", tap + ",id=peer,ifname=peer", "-device", nicDevices["virtio_net"] + ",netdev=peer,romfile=,mac=" + peerMAC,
	}
}

// start starts a program in the namespace.
func (b *bridge) start(c *exec.Cmd) error {
	return b.aside(func() error {
		if err := netns.Set(b.ns); err != nil {
			return err
		}
		return c.Start()
	})
}

func (b *bridge) close() error {
	if !b.ns.IsOpen() {
		return nil
	}
	return b.ns.Close()
}
