package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// patience is how long a machine may take to boot.
type patience struct {
	silence time.Duration // from switching it on to its first line
	boot    time.Duration // from there to its first program
}

// bootPatience: about one boot in a few tens hangs behind the firmware; the others need 3 s or 4.
var bootPatience = patience{silence: 15 * time.Second, boot: 45 * time.Second}

// boots is how often a machine is switched on at most.
const boots = 3

// machine is a virtual machine with two network interfaces on one wire: the one under test, whose address ends in 01, and a peer, whose
// address ends in 02.
type machine struct {
	emulator  emulator
	kernel    kernel
	initramfs string
	leg       leg
	wire      wire
	patience  patience
	kvm       bool   // do not emulate the processor
	log       string // file that takes what it says
}

func (m machine) arguments(ctx context.Context) []string {
	command := []string{"console=ttyS0", "earlyprintk=ttyS0,115200", "panic=-1", "oops=panic", "mitigations=off", "net.ifnames=0"}
	for name, value := range m.leg.environment() {
		command = append(command, name+"="+value)
	}
	if deadline, ok := ctx.Deadline(); ok {
		// Before this end, so that tests that hang can show where.
		command = append(command, fmt.Sprintf("RINGROAD_VM_LIMIT=%.0fs", max(time.Until(deadline)-20*time.Second, time.Second).Seconds()))
	}
	args := []string{
		"-L", filepath.Join(m.emulator.root, "usr/share/qemu"), "-L", filepath.Join(m.emulator.root, "usr/share/seabios"),
		"-machine", "q35", "-cpu", "max", "-smp", fmt.Sprint(m.leg.cpus), "-m", "2G",
		"-kernel", m.kernel.image, "-initrd", m.initramfs, "-append", strings.Join(command, " "),
		"-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
	}
	if m.kvm {
		args = append(args, "-accel", "kvm")
	} else {
		args = append(args, "-accel", "tcg,thread=multi")
	}
	return append(args, m.wire.arguments(m.leg.nic)...)
}

// run switches the machine on and returns what it said on its console when it has switched itself off. One that does not boot is
// switched on again.
func (m machine) run(ctx context.Context) (console []byte, err error) {
	for range boots {
		console, err = m.boot(ctx)
		if !errors.Is(err, errNoBoot) {
			return console, err
		}
	}
	return console, fmt.Errorf("switched on %d times: %w", boots, err)
}

// errNoBoot is a machine that hangs before its first program has begun.
var errNoBoot = errors.New("the machine does not boot")

func (m machine) boot(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	program := filepath.Join(m.emulator.root, "usr/bin/qemu-system-x86_64")
	if _, err := os.Stat(program); err != nil {
		program = "qemu-system-x86_64" // the host has the newest already
	}
	c := exec.CommandContext(ctx, program, m.arguments(ctx)...)
	var libraries []string
	for _, d := range []string{"usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"} {
		libraries = append(libraries, filepath.Join(m.emulator.root, d))
	}
	c.Env = append(os.Environ(), "LD_LIBRARY_PATH="+strings.Join(libraries, ":"))
	var complaint bytes.Buffer
	c.Stderr = &complaint
	c.WaitDelay = 5 * time.Second
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	log, err := os.Create(m.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() //nolint:errcheck // it is for people
	if err := m.wire.start(c); err != nil {
		return nil, fmt.Errorf("start qemu: %w", err)
	}
	timer := time.AfterFunc(m.patience.silence, func() { cancel(errNoBoot) })
	defer timer.Stop()
	console := readConsole(io.TeeReader(out, log), func() { timer.Reset(m.patience.boot) }, func() { timer.Stop() })
	err = c.Wait()
	if ctx.Err() != nil {
		return console, context.Cause(ctx)
	}
	if err != nil {
		return console, fmt.Errorf("qemu: %w: %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	return console, nil
}

// readConsole reads to the end, and calls spoke at the first whole line, and booted at the first of package init.
func readConsole(r io.Reader, spoke, booted func()) []byte {
	var console bytes.Buffer
	b := bufio.NewReader(r)
	for lines, up := 0, false; ; lines++ {
		line, err := b.ReadBytes('\n')
		console.Write(line)
		if err != nil {
			return console.Bytes()
		}
		if lines == 0 {
			spoke()
		}
		if !up && bytes.HasPrefix(line, []byte("GUEST ")) {
			up = true
			booted()
		}
	}
}
