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
