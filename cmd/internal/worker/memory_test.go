package worker

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What is resident of the executable goes after the start and every few seconds, and
// comes back when it is used.
func TestUnusedPagesOfTheExecutableGo(t *testing.T) {
	m, err := NewMemory()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.executable) == 0 {
		t.Fatal("the executable was not found in memory")
	}
	expect := func(when string, step func()) {
		t.Helper()
		before := touchExecutable(t, m)
		step()
		if after := residentExecutable(t); after > before/2 {
			t.Errorf("%s: %d KiB of the executable were resident, then %d", when, before, after)
		}
	}
	expect("after the start", m.Started)
	expect("later", func() {
		for range unmapTicks {
			m.Tick()
		}
	})
}

// touchExecutable reads from all pages of the executable.
func touchExecutable(t *testing.T, m *Memory) (kib int) {
	t.Helper()
	memory, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	for _, a := range m.executable {
		if _, err := memory.ReadAt(make([]byte, a.end-a.start), int64(a.start)); err != nil {
			t.Fatal(err)
		}
	}
	return residentExecutable(t)
}

// residentExecutable is how many KiB of the executable are resident.
func residentExecutable(t *testing.T) (kib int) {
	t.Helper()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if !strings.HasSuffix(f[0], ":") {
			inside = f[len(f)-1] == path && !strings.Contains(f[1], "w")
		} else if inside && f[0] == "Rss:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			kib += n
		}
	}
	return kib
}
