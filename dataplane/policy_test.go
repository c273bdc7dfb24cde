package dataplane

import (
	"strings"
	"testing"
)

func TestZeroCopyPolicy(t *testing.T) {
	const small, large = 2048, 4096
	linux := func(major, minor int) kernelRelease { return kernelRelease{major, minor} }
	for _, tc := range []struct {
		mode   ZeroCopyMode
		driver string
		frames int
		kernel kernelRelease
		xdp    Mode
		want   bool
		tells  string
	}{
		{ZeroCopyAuto, "mlx5_core", small, linux(6, 1), ModeNative, true, "mlx5_core: in use"},
		{ZeroCopyAuto, "mlx5_core", small, linux(7, 0), ModeNative, true, "fleets"},
		{ZeroCopyAuto, "mlx5_core", small, linux(5, 15), ModeNative, false, "from Linux 6.1 on, this is 5.15"},
		{ZeroCopyAuto, "mlx5_core", small, kernelRelease{}, ModeNative, false, "from Linux 6.1 on"},
		{ZeroCopyAuto, "mlx5_core", small, linux(6, 18), ModeGeneric, false, "generic mode"},
		{ZeroCopyAuto, "ice", small, linux(6, 18), ModeNative, false, "ice: it has corrupted kernel memory"},
		{ZeroCopyAuto, "igb", small, linux(7, 0), ModeNative, false, "igb: it is new"},
		{ZeroCopyAuto, "veth", small, linux(6, 18), ModeNative, false, "veth: the driver has none"},
		{ZeroCopyAuto, "somebodys", small, linux(6, 18), ModeNative, false, "somebodys: nothing is known"},
		{ZeroCopyOn, "ice", small, linux(5, 5), ModeNative, true, "against the advice for ice: it has corrupted"},
		{ZeroCopyOn, "mlx5_core", small, linux(6, 6), ModeNative, true, "zero_copy is on"},
		{ZeroCopyOn, "ena", large, linux(6, 6), ModeNative, true, "2.13"},
		{ZeroCopyOff, "mlx5_core", small, linux(6, 18), ModeNative, false, "zero_copy is off"},
	} {
		l := LinkInfo{Driver: tc.driver, Mode: tc.xdp, MTU: 1500}
		got, reason := tc.mode.wantsZeroCopy(l, tc.frames, tc.kernel)
		if got != tc.want || !strings.Contains(reason, tc.tells) {
			t.Errorf("%v on %s, kernel %v, %v mode: %v (%s), want %v (%s)", tc.mode, tc.driver, tc.kernel, tc.xdp, got, reason, tc.want, tc.tells)
		}
	}
	jumbo := LinkInfo{Driver: "mlx5_core", Mode: ModeNative, MTU: 9000, Frags: true, Features: Features{ZeroCopySegments: 2}}
	if got, reason := ZeroCopyAuto.wantsZeroCopy(jumbo, large, linux(6, 18)); got || !strings.Contains(reason, "at most 2 frames for it, MTU 9000 needs 3") {
		t.Errorf("packets of too many frames: %v (%s)", got, reason)
	}
	if k := runningKernel(); k.major < 5 {
		t.Errorf("running kernel read as %v", k)
	}
}

func TestFrameSizeFollowsMTUAndDriver(t *testing.T) {
	running := kernelRelease{6, 18}
	for _, tc := range []struct {
		mode   ZeroCopyMode
		driver string
		mtu    int
		want   int
	}{
		{ZeroCopyAuto, "veth", 1500, 2048},
		{ZeroCopyAuto, "veth", 2048 - 256 - 22, 2048},
		{ZeroCopyAuto, "veth", 2048 - 256 - 21, 4096},
		{ZeroCopyAuto, "veth", 9000, 4096},
		{ZeroCopyOff, "ena", 1500, 2048},
		{ZeroCopyAuto, "ena", 1500, 2048}, // it copies
		{ZeroCopyOn, "ena", 1500, 4096},
		{ZeroCopyOn, "mlx5_core", 1500, 2048},
	} {
		l := LinkInfo{Driver: tc.driver, Mode: ModeNative, MTU: tc.mtu}
		if got := tc.mode.frameBytesFor(l, running); got != tc.want {
			t.Errorf("%v on %s, MTU %d: frames of %d bytes, want %d", tc.mode, tc.driver, tc.mtu, got, tc.want)
		}
	}
}

func TestRefusalsSayWhatTheDriverWants(t *testing.T) {
	for _, tc := range []struct {
		link  LinkInfo
		frame int
		tells string
	}{
		{LinkInfo{Driver: "ena", Mode: ModeNative, MTU: 1500}, 2048, "4096 bytes (rings.frame_bytes)"},
		{LinkInfo{Driver: "igb", Mode: ModeNative, MTU: 1500}, 2048, "from Linux 6.14 on, this is 6.12"},
		{LinkInfo{Driver: "i40e", Mode: ModeNative, MTU: 3400}, 4096, "3046 at most, this is 3400"},
		{LinkInfo{Driver: "mlx5_core", Mode: ModeGeneric, MTU: 1500}, 2048, "generic mode"},
		{LinkInfo{Driver: "veth", Mode: ModeNative, MTU: 1500}, 2048, "has none"},
		{LinkInfo{Driver: "ice", Mode: ModeNative, MTU: 9000, Frags: true, Features: Features{ZeroCopySegments: 1}}, 4096, "at most 1 frames"},
	} {
		if got := refusal(tc.link, tc.frame, kernelRelease{6, 12}); !strings.Contains(got, tc.tells) {
			t.Errorf("%s: %q does not tell %q", tc.link.Driver, got, tc.tells)
		}
	}
	if got := nativeRefusal(LinkInfo{Name: "eth0", Driver: "igc", MTU: 3000}); !strings.Contains(got, "ip link set dev eth0 mtu 1500") {
		t.Errorf("%q does not tell what to do", got)
	}
	if got := nativeRefusal(LinkInfo{Name: "eth0", Driver: "igc", MTU: 1500}); got != "" {
		t.Errorf("%q although the MTU fits", got)
	}
}

// TestPoliciesAreWhole keeps rows from contradicting themselves.
func TestPoliciesAreWhole(t *testing.T) {
	for driver, p := range driverPolicies {
		if p.reason == "" || p.trusted.before(p.offered) && p.trusted != (kernelRelease{}) || p.trusted != (kernelRelease{}) && p.offered == (kernelRelease{}) {
			t.Errorf("%s: %+v", driver, p)
		}
		if p.maxMTU > maxPlainMTU || p.frameBytes != 0 && p.frameBytes != maxFrameBytes {
			t.Errorf("%s: MTU %d, frames of %d bytes", driver, p.maxMTU, p.frameBytes)
		}
	}
}
