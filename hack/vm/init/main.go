// Command init is the first process of the virtual machine of hack/vm: it makes the guest a machine on which a program can run, runs the
// tests, says on the console how they ended ("RESULT 0"), and switches the machine off.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

func main() {
	fmt.Println("GUEST", release())
	status := 1
	err := prepare()
	if err == nil {
		status, err = runTests()
	}
	if err != nil {
		fmt.Println("GUEST", err)
	}
	fmt.Println("RESULT", status)
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("GUEST power off:", err)
	}
}

func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(u.Release[:])
}

// prepare mounts what a process expects to find and loads the modules, in the order of their names.
func prepare() error {
	for _, m := range []struct{ kind, target string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"bpf", "/sys/fs/bpf"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := unix.Mount(m.kind, m.target, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// Warnings only: the console is for the tests now.
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("5"), 0); err != nil {
		return err
	}
	modules, err := filepath.Glob("/modules/*.ko")
	if err != nil {
		return err
	}
	for _, name := range modules {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("load %s: %w", name, err)
		}
	}
	return nil
}

// runTests runs the test binary and returns its exit status. What its environment says came with the kernel's command line.
func runTests() (status int, err error) {
	c := exec.Command("/bin/guest.test", "-test.v", "-test.timeout", os.Getenv("RINGROAD_VM_LIMIT"), "-test.run", os.Getenv("RINGROAD_VM_TESTS"))
	c.Dir = "/tmp"
	c.Stdout, c.Stderr = os.Stdout, os.Stdout
	c.Env = append(os.Environ(), "PATH=/bin", "HOME=/tmp")
	err = c.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return c.ProcessState.ExitCode(), err
}
