package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// kernelModules are what the guest loads, with what they need; those that a kernel has built in are left out.
var kernelModules = []string{"virtio_pci", "virtio_net", "igb", "veth"}

// emulator is an unpacked qemu.
type emulator struct{ root string }

// kernel is an unpacked Linux.
type kernel struct {
	Release string // as uname -r has it
	image   string
	dir     string // has the modules somewhere below
}

// findKernel looks for the image: packages up to Linux 6.18 have it in /boot, later ones beside the modules.
func findKernel(dir string) (kernel, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		images, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return kernel{}, err
		}
		for _, image := range images {
			release := strings.TrimPrefix(filepath.Base(image), "vmlinuz-")
			if release == "vmlinuz" {
				release = filepath.Base(filepath.Dir(image))
			}
			return kernel{release, image, dir}, nil
		}
	}
	return kernel{}, fmt.Errorf("no kernel in %s: run again with -fetch", dir)
}

// store is the folder where packages are kept unpacked from run to run.
type store struct {
	dir  string
	host *archives // nil: not asked yet
}

// openStore opens the store in the user's cache directory; fresh empties it.
func openStore(fresh bool) (*store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("find the cache directory: %w: set HOME or XDG_CACHE_HOME", err)
	}
	s := &store{dir: filepath.Join(cache, "ringroad", "vm")}
	if fresh {
		if err := os.RemoveAll(s.dir); err != nil {
			return nil, err
		}
	}
	return s, os.MkdirAll(s.dir, 0o755)
}

// emulator returns qemu, of the host's backports: that of Debian 12 itself knows no igb.
func (s *store) emulator(ctx context.Context) (emulator, error) {
	dir, err := s.unpacked("qemu", func(temporary string) ([]string, error) {
		if err := s.askHost(ctx); err != nil {
			return nil, err
		}
		backports := s.host.release + "-backports"
		apt, err := s.host.newAptRoot(ctx, temporary, s.host.release, backports)
		if err != nil {
			return nil, err
		}
		return apt.fetch(ctx, backports, "qemu-system-x86")
	})
	return emulator{dir}, err
}

// kernel returns the newest kernel of a suite.
func (s *store) kernel(ctx context.Context, suite string) (kernel, error) {
	dir, err := s.unpacked("linux-"+suite, func(temporary string) ([]string, error) {
		if err := s.askHost(ctx); err != nil {
			return nil, err
		}
		apt, err := s.host.newAptRoot(ctx, temporary, suite)
		if err != nil {
			return nil, err
		}
		names, err := kernelPackages(ctx, apt)
		if err != nil {
			return nil, err
		}
		return apt.fetchOnly(ctx, names...)
	})
	if err != nil {
		return kernel{}, err
	}
	return findKernel(dir)
}

// kernelPackages finds the packages that hold a suite's newest kernel and its modules: one up to Linux 6.18, several after.
func kernelPackages(ctx context.Context, apt *aptRoot) (names []string, err error) {
	newest, err := apt.needs(ctx, "linux-image-amd64")
	if err != nil {
		return nil, err
	}
	for _, image := range newest {
		if !strings.HasPrefix(image, "linux-image-") {
			continue
		}
		names = append(names, image)
		parts, err := apt.needs(ctx, image)
		if err != nil {
			return nil, err
		}
		for _, part := range parts {
			if strings.HasPrefix(part, "linux-binary-") || strings.HasPrefix(part, "linux-modules-") {
				names = append(names, part)
			}
		}
		return names, nil
	}
	return nil, unavailable{errors.New("linux-image-amd64 names no kernel")}
}

// unpacked returns the folder of some packages. What is not there yet is fetched with the given function, in a temporary directory, and
// unpacked; it appears under its name when it is complete.
func (s *store) unpacked(name string, fetch func(temporary string) ([]string, error)) (string, error) {
	dir := filepath.Join(s.dir, name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	temporary, err := os.MkdirTemp(s.dir, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temporary)
	packages, err := fetch(temporary)
	if err != nil {
		return "", fmt.Errorf("fetch %s: %w", name, err)
	}
	root := filepath.Join(temporary, "root")
	for _, p := range packages {
		if _, err := output(context.Background(), "dpkg-deb", "-x", p, root); err != nil {
			return "", fmt.Errorf("unpack %s: %w", name, err)
		}
	}
	return dir, os.Rename(root, dir)
}

func (s *store) askHost(ctx context.Context) error {
	if s.host != nil {
		return nil
	}
	a, err := hostArchives(ctx)
	if err == nil {
		s.host = &a
	}
	return err
}
