package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"ringroad/hack/lab"
)

// Kinds of files of an archive (the type bits of st_mode).
const (
	kindDirectory = 0o040000
	kindRegular   = 0o100000
	kindCharacter = 0o020000
)

// cpioWriter writes an archive as the kernel unpacks it at boot (cpio "newc": Documentation/driver-api/early-userspace/buffer-format.rst).
type cpioWriter struct {
	w       io.Writer
	written int
	inodes  int
	err     error // the first
}

// add adds a file. Its directory must have been added before.
func (c *cpioWriter) add(name string, kind, permissions uint32, content []byte) {
	c.entry(name, kind|permissions, content, 0, 0)
}

// device adds a character device.
func (c *cpioWriter) device(name string, major, minor int) {
	c.entry(name, kindCharacter|0o600, nil, major, minor)
}

func (c *cpioWriter) entry(name string, mode uint32, content []byte, major, minor int) {
	c.inodes++
	header := "070701"
	for _, field := range []int{c.inodes, int(mode), 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name) + 1, 0} {
		header += fmt.Sprintf("%08x", field)
	}
	c.put([]byte(header + name + "\x00"))
	c.put(content)
}

// put writes a part of an entry, filled up to a multiple of four bytes.
func (c *cpioWriter) put(b []byte) {
	for _, part := range [][]byte{b, make([]byte, -(c.written+len(b))&3)} {
		if c.err != nil {
			return
		}
		_, c.err = c.w.Write(part)
		c.written += len(part)
	}
}

// finish ends the archive.
func (c *cpioWriter) finish() error {
	c.entry("TRAILER!!!", 0, nil, 0, 0)
	return c.err
}

// Where things are in the guest; package init knows them too.
const (
	guestModules  = "modules"
	guestPrograms = "bin"
)

// programs are what the guest runs, built for it: files of a directory.
type programs struct{ dir string }

// buildPrograms builds ringroad and what tests it in the guest, into a directory.
func buildPrograms(ctx context.Context, dir string) (programs, error) {
	if _, err := lab.BuildRingroad(dir); err != nil {
		return programs{}, err
	}
	for _, build := range [][]string{
		{"build", "-trimpath", "-o", filepath.Join(dir, "init"), "ringroad/hack/vm/init"},
		{"test", "-trimpath", "-c", "-o", filepath.Join(dir, "guest.test"), "ringroad/hack/vm/guest"},
	} {
		c := exec.CommandContext(ctx, "go", build...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := c.CombinedOutput(); err != nil {
			return programs{}, fmt.Errorf("build %s: %w:\n%s", build[len(build)-1], err, out)
		}
	}
	return programs{dir}, nil
}

// writeInitramfs writes what a guest has for a disk. It is not compressed: an emulated processor would take seconds for that.
func writeInitramfs(path string, modules []module, p programs) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	buffered := bufio.NewWriter(f)
	c := &cpioWriter{w: buffered}
	for _, d := range []string{"dev", "etc", "proc", "sys", "run", "tmp", guestModules, guestPrograms} {
		c.add(d, kindDirectory, 0o755, nil)
	}
	c.device("dev/console", 5, 1)
	c.device("dev/null", 1, 3)
	c.add("etc/passwd", kindRegular, 0o644, []byte("root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n"))
	c.add("etc/group", kindRegular, 0o644, []byte("root:x:0:\nnogroup:x:65534:\n"))
	for i, m := range modules {
		c.add(fmt.Sprintf("%s/%02d-%s.ko", guestModules, i, m.name), kindRegular, 0o644, m.content)
	}
	for name, file := range map[string]string{"init": "init", guestPrograms + "/ringroad": "ringroad", guestPrograms + "/guest.test": "guest.test"} {
		content, err := os.ReadFile(filepath.Join(p.dir, file))
		if err != nil {
			return err
		}
		c.add(name, kindRegular, 0o755, content)
	}
	if err := c.finish(); err != nil {
		return err
	}
	return buffered.Flush()
}
