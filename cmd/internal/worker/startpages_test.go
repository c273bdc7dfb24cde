package worker

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// What is resident of the executable goes, and comes back when it is used.
func TestForgetStart(t *testing.T) {
	before := residentExecutable(t)
	if err := ForgetStart(); err != nil {
		t.Fatal(err)
	}
	after := residentExecutable(t)
	if before == 0 || after >= before {
		t.Errorf("%d KiB of the executable were resident, then %d", before, after)
	}
	areas, err := ownPages()
	if err != nil || len(areas) == 0 {
		t.Fatalf("areas %v, %v", areas, err)
	}
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
