package dataplane

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// kernelRelease is a kernel's major and minor number.
type kernelRelease struct{ major, minor int }

func (k kernelRelease) before(o kernelRelease) bool {
	return k.major < o.major || k.major == o.major && k.minor < o.minor
}

func (k kernelRelease) String() string { return fmt.Sprintf("%d.%d", k.major, k.minor) }

// driverPolicy is what experience tells of a driver in native mode.
type driverPolicy struct {
	offered kernelRelease // first kernel whose driver has zero-copy; zero: none has
	trusted kernelRelease // first kernel on which ZeroCopyAuto asks for it; zero: none
	// frameBytes is the size of frame that zero-copy needs; 0: whatever holds the MTU.
	frameBytes int
	doubles    bool   // in zero-copy mode it hands out frames twice
	maxMTU     int    // with a native program that takes frames in one buffer; 0: maxPlainMTU
	reason     string // why auto decides as it does; what to beware of when it is overruled
}

// driverPolicies is by the driver's name as ethtool -i shows it. Kernels are those of the driver in Linux; one built
// from elsewhere may have more or less.
var driverPolicies = map[string]driverPolicy{
	"mlx5_core": {offered: kernelRelease{5, 3}, trusted: kernelRelease{6, 1},
		reason: "in use by large fleets from Linux 6.1 on"},
	"i40e": {offered: kernelRelease{4, 20}, maxMTU: 3046,
		reason: "fleets that turned it on by default took that back"},
	"ice": {offered: kernelRelease{5, 5}, maxMTU: 3046,
		reason: "it has corrupted kernel memory and hung at teardown under load, in releases that are in use"},
	"ixgbe": {offered: kernelRelease{4, 20}, maxMTU: 3050,
		reason: "attaching resets the link for some 10 s, and some releases refuse queues on machines of more than 64 CPUs"},
	// With frames of 2 KB its zero-copy receives no full-sized frames: seen on an emulated igb under Linux 7.3.
	"igb": {offered: kernelRelease{6, 14}, frameBytes: 4096, doubles: true,
		reason: "it is new, its first releases leaked receive frames that a program passes to the kernel, and on Linux 7.3 it hands out frames twice when it runs out of them (rx_invalid), which costs those frames"},
	"igc": {offered: kernelRelease{5, 14}, maxMTU: 1500,
		reason: "little is known of it under load"},
	"virtio_net": {offered: kernelRelease{6, 11},
		reason: "receiving has it from 6.11 on, sending from 6.13 on, and much depends on the hypervisor"},
	"ena": {frameBytes: 4096, maxMTU: 3498,
		reason: "only Amazon's own releases of the driver have it, and those before 2.13 corrupt memory"},
	"gve": {offered: kernelRelease{6, 4}, maxMTU: 2032,
		reason: "little is known of it under load"},
	"idpf":          {reason: "only the newest kernels have it"},
	"st_gmac":       {offered: kernelRelease{5, 13}, reason: "little is known of it under load"},
	"nfp":           {offered: kernelRelease{5, 18}, reason: "little is known of it under load"},
	"fsl_dpaa2_eth": {offered: kernelRelease{6, 2}, reason: "little is known of it under load"},
	"tsnep":         {offered: kernelRelease{6, 4}, reason: "little is known of it under load"},
	"bnxt_en":       {reason: noZeroCopy},
	"sfc":           {reason: noZeroCopy},
	"mana":          {reason: noZeroCopy},
	"vmxnet3":       {reason: noZeroCopy},
	"ionic":         {reason: noZeroCopy},
	"hv_netvsc":     {reason: noZeroCopy},
	"tun":           {reason: noZeroCopy},
	"veth":          {reason: noZeroCopy},
	"bonding":       {reason: "it never goes through a bond: name the interfaces below it"},
}

// maxPlainMTU is the largest MTU whose frames reach a program that takes them in one buffer, on a 4 KiB page, as measured
// on veth.
const maxPlainMTU = 3506

const (
	noZeroCopy    = "the driver has none"
	unknownDriver = "nothing is known of it with this driver"
)

// policyOf returns the row of a driver.
func policyOf(driver string) driverPolicy {
	p, ok := driverPolicies[driver]
	if !ok {
		p.reason = unknownDriver
	}
	return p
}

// needsFrags reports whether an MTU needs the program that takes frames in several buffers, and queues like that. Below
// maxPlainMTU, generic mode can do without, and has to on a kernel that has no such queues.
func (p driverPolicy) needsFrags(mtu int, running kernelRelease) bool {
	return mtu > maxPlainMTU || p.maxMTU != 0 && mtu > p.maxMTU && !running.before(chainsKernel)
}

// frameBytesFor is the frame size for a link when the options name none.
func (z ZeroCopyMode) frameBytesFor(l LinkInfo, running kernelRelease) int {
	p := policyOf(l.Driver)
	switch {
	case z.mayAsk(p, running, l.Mode) && p.frameBytes != 0:
		return p.frameBytes
	case l.MTU+linkHeaderBytes > defaultFrameBytes-frameHeadroomBytes:
		return maxFrameBytes
	default:
		return defaultFrameBytes
	}
}

// mayAsk is the policy but for the frame size.
func (z ZeroCopyMode) mayAsk(p driverPolicy, running kernelRelease, m Mode) bool {
	switch z {
	case ZeroCopyOn:
		return true
	case ZeroCopyOff:
		return false
	default:
		return m == ModeNative && p.trusted != kernelRelease{} && !running.before(p.trusted)
	}
}

// wantsZeroCopy applies the policy to a link, and says why it decides so.
func (z ZeroCopyMode) wantsZeroCopy(l LinkInfo, frameBytes int, running kernelRelease) (ask bool, reason string) {
	p := policyOf(l.Driver)
	small := frameBytes < p.frameBytes
	switch {
	case z == ZeroCopyOff:
		return false, "zero_copy is off"
	case z == ZeroCopyOn && p.trusted != kernelRelease{} && !running.before(p.trusted):
		return true, "zero_copy is on"
	case z == ZeroCopyOn:
		return true, fmt.Sprintf("zero_copy is on, against the advice for %s: %s", l.Driver, p.reason)
	case l.Mode != ModeNative:
		return false, fmt.Sprintf("%v mode always copies", l.Mode)
	case !z.mayAsk(p, running, l.Mode) && p.trusted == kernelRelease{}:
		return false, fmt.Sprintf("%s: %s", l.Driver, p.reason)
	case !z.mayAsk(p, running, l.Mode):
		return false, fmt.Sprintf("%s: trusted from Linux %v on, this is %v", l.Driver, p.trusted, running)
	case small:
		return false, fmt.Sprintf("%s wants frames of %d bytes for it, these have %d", l.Driver, p.frameBytes, frameBytes)
	case l.shortOfSegments(frameBytes) != "":
		return false, l.shortOfSegments(frameBytes)
	default:
		return true, fmt.Sprintf("%s: %s", l.Driver, p.reason)
	}
}

// refusal says why zero-copy that was demanded could not be had.
func refusal(l LinkInfo, frameBytes int, running kernelRelease) string {
	p := policyOf(l.Driver)
	switch {
	case l.Mode != ModeNative:
		return fmt.Sprintf("%v mode always copies", l.Mode)
	case p.offered != kernelRelease{} && running.before(p.offered):
		return fmt.Sprintf("it has it from Linux %v on, this is %v", p.offered, running)
	case frameBytes < p.frameBytes:
		return fmt.Sprintf("it wants frames of %d bytes (rings.frame_bytes), these have %d", p.frameBytes, frameBytes)
	case l.shortOfSegments(frameBytes) != "":
		return l.shortOfSegments(frameBytes)
	case p.maxMTU != 0 && l.MTU > p.maxMTU && !l.Frags:
		return fmt.Sprintf("with XDP it takes an MTU of %d at most, this is %d", p.maxMTU, l.MTU)
	default:
		return p.reason
	}
}

// nativeRefusal says what is known of why a driver would not take the program; "" if nothing is.
func nativeRefusal(l LinkInfo) string {
	most := policyOf(l.Driver).maxMTU
	if most == 0 && l.Frags {
		most = maxPlainMTU
	}
	if most != 0 && l.MTU > most {
		return fmt.Sprintf(": with XDP it may take an MTU of %d at most, this is %d: ip link set dev %s mtu %d", most, l.MTU, l.Name, most)
	}
	return ""
}

// zeroCopyBound reports whether the kernel bound a socket in zero-copy mode.
func zeroCopyBound(fd int) (bool, error) {
	options, err := unix.GetsockoptInt(fd, unix.SOL_XDP, unix.XDP_OPTIONS)
	if err != nil {
		return false, fmt.Errorf("read back XDP_OPTIONS: %w", err)
	}
	return options&unix.XDP_OPTIONS_ZEROCOPY != 0, nil
}
