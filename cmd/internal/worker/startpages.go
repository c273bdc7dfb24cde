package worker

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"golang.org/x/sys/unix"
)

// ForgetStart gives back memory that only the start needed: garbage, and the pages
// of the executable. Those that are used come back from the page cache.
func ForgetStart() error {
	debug.FreeOSMemory()
	areas, err := ownPages()
	if err != nil {
		return fmt.Errorf("give back what the start needed: %w", err)
	}
	for _, a := range areas {
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, a.start, a.end-a.start, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("give back what the start needed: %w", errno)
		}
	}
	return nil
}

// area is a part of the address space.
type area struct{ start, end uintptr }

// ownPages are the areas of the executable that are as they are in the file: nobody
// can write to them, and nobody has (a linker's relocations would be lost).
func ownPages() (areas []area, err error) {
	executable, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return nil, err
	}
	b, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return nil, err
	}
	var a area
	candidate := false
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			_, err := fmt.Sscanf(f[0], "%x-%x", &a.start, &a.end)
			candidate = err == nil && len(f) == 6 && f[5] == executable && (f[1] == "r-xp" || f[1] == "r--p")
		case candidate && len(f) == 3 && f[0] == "Anonymous:" && f[1] == "0":
			areas = append(areas, a)
		}
	}
	return areas, nil
}
