package notify_test

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/notify"
)

// manager listens as systemd does, on a path or an abstract address.
func manager(t *testing.T, address string) *net.UnixConn {
	t.Helper()
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", address)
	return c
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

func TestMessages(t *testing.T) {
	for _, address := range []string{filepath.Join(t.TempDir(), "notify"), "@ringroad-test-" + strconv.Itoa(os.Getpid())} {
		c := manager(t, address)
		for _, m := range []struct {
			send func() error
			want string
		}{
			{func() error { return notify.Ready("serving with 2 workers") }, `^READY=1\nSTATUS=serving with 2 workers$`},
			{notify.Reloading, `^RELOADING=1\nMONOTONIC_USEC=[0-9]+$`},
			{notify.Stopping, `^STOPPING=1$`},
			{func() error { return notify.Status("the last reload failed:\n line 1\nREADY=1") }, `^STATUS=the last reload failed: line 1 READY=1$`},
			{notify.Alive, `^WATCHDOG=1$`},
		} {
			if err := m.send(); err != nil {
				t.Fatal(err)
			}
			if got := receive(t, c); !regexp.MustCompile(m.want).MatchString(got) {
				t.Errorf("sent %q, want %s", got, m.want)
			}
		}
	}
}

func TestReloadingTellsTheMonotonicTime(t *testing.T) {
	c := manager(t, filepath.Join(t.TempDir(), "notify"))
	clock := func() int64 {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			t.Fatal(err)
		}
		return now.Nano() / 1000
	}
	before := clock()
	if err := notify.Reloading(); err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(receive(t, c), "MONOTONIC_USEC=")
	if at, err := strconv.ParseInt(text, 10, 64); err != nil || at < before || at > clock() {
		t.Errorf("%q, %v; now %d", text, err, clock())
	}
}

func TestNobodyListens(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify.Ready(""); err != nil {
		t.Errorf("without a manager: %v", err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "gone"))
	if err := notify.Ready(""); err == nil {
		t.Error("no error for a socket that is not there")
	}
}

func TestWatchdogInterval(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
		fails     bool
	}{
		{"", "", 0, false},
		{"30000000", "", 15 * time.Second, false},
		{"30000000", own, 15 * time.Second, false},
		{"30000000", "1", 0, false},
		{"soon", own, 0, true},
	} {
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		if got, err := notify.WatchdogInterval(); got != c.want || (err != nil) != c.fails {
			t.Errorf("%q for %q: %v, %v, want %v", c.usec, c.pid, got, err, c.want)
		}
	}
}
