package worker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"ringroad/proxy/config"
	"ringroad/stack"
)

func TestInvalidFramesAreToldOfOnceInAWhile(t *testing.T) {
	var said bytes.Buffer
	w := &Worker{log: slog.New(slog.NewTextHandler(&said, nil)), values: newValues(pageLinks)}
	for _, l := range pageLinks {
		w.links = append(w.links, link{Link: l})
	}
	now := time.Now()
	for _, tc := range []struct {
		after   time.Duration
		invalid uint64 // in all, of one of two queues
		want    string // in what is said; "": nothing is
	}{
		{0, 0, ""}, {time.Second, 2, "frames=2"}, {2 * time.Second, 3, ""}, {warningInterval, 3, ""}, {warningInterval + time.Second, 5, "frames=3"},
		{3 * warningInterval, 5, ""},
	} {
		said.Reset()
		w.values.links[0].queues[1].ours.RXInvalid = tc.invalid
		w.warnInvalid(now.Add(tc.after))
		if got := said.String(); strings.Count(got, "\n") != min(1, len(tc.want)) || !strings.Contains(got, tc.want) {
			t.Errorf("after %v, %d frames: said %q, want %q", tc.after, tc.invalid, got, tc.want)
		}
	}
}

// What a driver gets wrong shows as a bad checksum, so they are verified wherever there is one.
func TestChecksumsAreVerified(t *testing.T) {
	for _, driver := range []string{"igb", "virtio_net", "mlx5_core", "", "veth"} {
		auto := stack.ChecksumsRight
		if driver == "veth" {
			auto = stack.ChecksumsUnfilled
		}
		for setting, want := range map[config.RXChecksum]stack.Checksums{
			config.RXChecksumAuto: auto, config.RXChecksumVerify: stack.ChecksumsRight, config.RXChecksumTrust: stack.ChecksumsAny,
		} {
			if got := checksums(setting, driver); got != want {
				t.Errorf("driver %q, %s: %d, want %d", driver, setting, got, want)
			}
		}
	}
}
