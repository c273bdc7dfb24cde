package dataplane

// Mode is where the steering program runs.
type Mode int

const (
	// ModeAuto asks for native mode and falls back to generic mode.
	ModeAuto Mode = iota
	// ModeNative runs the program in the driver, before the kernel allocates an skb.
	ModeNative
	// ModeGeneric runs the program in the kernel's receive path, after the skb exists. It works with any driver and
	// is several times slower.
	ModeGeneric
)

func (m Mode) String() string {
	switch m {
	case ModeNative:
		return "native"
	case ModeGeneric:
		return "generic"
	default:
		return "auto"
	}
}

// ZeroCopyMode says whether the NIC may read and write the UMEM itself.
type ZeroCopyMode int

const (
	// ZeroCopyAuto asks for zero-copy on drivers where it is known to be sound, and for copies elsewhere.
	ZeroCopyAuto ZeroCopyMode = iota
	// ZeroCopyOn demands zero-copy: a queue that cannot have it does not open.
	ZeroCopyOn
	// ZeroCopyOff always copies.
	ZeroCopyOff
)

func (z ZeroCopyMode) String() string {
	switch z {
	case ZeroCopyOn:
		return "on"
	case ZeroCopyOff:
		return "off"
	default:
		return "auto"
	}
}

// zeroCopySound lists the drivers whose zero-copy has held in large fleets, with the first kernel it is trusted on.
// Others that offer it (ice, i40e, ixgbe, igb, igc, ena, gve, virtio_net) have corrupted memory, lost frames or hung
// on teardown in releases that are still in use, so they get it on demand only.
var zeroCopySound = map[string]kernelRelease{
	"mlx5_core": {6, 1}, // the one driver Firedancer enables by itself, and from this kernel on
}

// wantsZeroCopy applies the policy to one driver on one kernel in one XDP mode.
func (z ZeroCopyMode) wantsZeroCopy(driver string, running kernelRelease, m Mode) bool {
	switch z {
	case ZeroCopyOn:
		return true
	case ZeroCopyOff:
		return false
	}
	since, sound := zeroCopySound[driver]
	return sound && m == ModeNative && !running.before(since)
}

// kernelRelease is a kernel's major and minor number.
type kernelRelease struct{ major, minor int }

func (k kernelRelease) before(o kernelRelease) bool {
	return k.major < o.major || k.major == o.major && k.minor < o.minor
}
