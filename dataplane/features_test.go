package dataplane

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/vishvananda/netlink/nl"
)

// TestFeaturesOfAReply decodes what a NIC with much of it would answer, and what the first kernels did.
func TestFeaturesOfAReply(t *testing.T) {
	u64 := func(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }
	reply := func(attributes ...*nl.RtAttr) (b []byte) {
		b = []byte{netdevDeviceGet, 1, 0, 0}
		for _, a := range append([]*nl.RtAttr{nl.NewRtAttr(netdevAttrIfindex, nl.Uint32Attr(2))}, attributes...) {
			b = append(b, a.Serialize()...)
		}
		return b
	}
	xdp := nl.NewRtAttr(netdevAttrXDP, u64(0x12b))
	f, err := decodeFeatures(reply(xdp, nl.NewRtAttr(netdevAttrRXMetadata, u64(3)), nl.NewRtAttr(netdevAttrXSK, u64(6)),
		nl.NewRtAttr(netdevAttrZCMaxSegs, nl.Uint32Attr(8)), nl.NewRtAttr(99, u64(1))))
	must(t, err)
	want := Features{Known: true, XDP: XDPBasic | XDPRedirect | XDPZeroCopy | XDPFrags | 1<<8, RXMetadata: RXTimestamp | RXHash,
		XSK: XSKTXChecksum | XSKTXLaunchTime, ZeroCopySegments: 8}
	if f != want || !f.Native() || !f.ZeroCopy() {
		t.Errorf("got %+v, want %+v", f, want)
	}
	for _, c := range []struct{ got, want []string }{
		{f.XDP.Names(), []string{"basic", "redirect", "xsk-zerocopy", "rx-sg", "bit 8"}},
		{f.RXMetadata.Names(), []string{"timestamp", "hash"}},
		{f.XSK.Names(), []string{"tx-checksum", "tx-launch-time-fifo"}},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("names %q, want %q", c.got, c.want)
		}
	}
	if f, err = decodeFeatures(reply(xdp)); err != nil || f != (Features{Known: true, XDP: want.XDP}) {
		t.Errorf("of Linux 6.3: %+v, %v", f, err)
	}
	_, err = decodeFeatures(reply())
	wantError(t, err, ErrUnsupported)
	if _, err = decodeFeatures(reply(nl.NewRtAttr(netdevAttrXDP, nl.Uint32Attr(3)))); err == nil {
		t.Error("an attribute that is too short is taken")
	}
}

// TestFeaturesOfVeth asks the kernel, Linux 6.6 or later.
func TestFeaturesOfVeth(t *testing.T) {
	w := newWire(t, 1, 1)
	index := w.edgeLink(0).Attrs().Index
	f, err := ReadFeatures(index)
	must(t, err)
	if !f.Known || !f.Native() || f.ZeroCopy() || f.RXMetadata&(RXTimestamp|RXHash) != RXTimestamp|RXHash {
		t.Errorf("veth tells %+v", f)
	}
	if l := w.open(0).Link(); !l.Features.Native() {
		t.Errorf("opened with %+v, before %+v", l.Features, f)
	}
	_, err = ReadFeatures(index + 1000)
	wantError(t, err, ErrNoInterface)
}

// TestBoundQueues finds the sockets of others, whoever they are.
func TestBoundQueues(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	bound := func(want ...int) {
		t.Helper()
		if got, err := BoundQueues(in.Index(), 2); err != nil || !slices.Equal(got, want) {
			t.Errorf("bound queues %v, %v, want %v", got, err, want)
		}
	}
	bound()
	w.openQueue(in, QueueOptions{Queue: 1})
	bound(1)
	w.openQueue(in, QueueOptions{Queue: 0})
	bound(0, 1)
	_, err := BoundQueues(in.Index()+1000, 1)
	wantError(t, err, ErrNoInterface)
}
