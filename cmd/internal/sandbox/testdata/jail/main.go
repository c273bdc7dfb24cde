// Command jail goes into the sandbox and tells its test what it can still do.
// It is no test itself because a test binary contains C code.
//
//	jail try USER CPU    report as JSON on standard output, then wait for the end of standard input
//	jail orphan USER     start `jail sit` and wait; the test kills this one
//	jail sit USER PID    go in as a child of PID, say so and wait for ever
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"time"

	"ringroad/cmd/internal/sandbox"
)

// report is what the test reads.
type report struct {
	Log      string            // of Enter
	Attempts map[string]string // what must fail, with the error
	Failures []string          // of what must work
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "jail:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: see the source")
	}
	identity, err := sandbox.Lookup(args[1])
	if err != nil {
		return err
	}
	switch {
	case args[0] == "orphan":
		runtime.LockOSThread()
		c := exec.Command("/proc/self/exe", "sit", args[1], strconv.Itoa(os.Getpid()))
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		return c.Wait()
	case len(args) < 3:
		return errors.New("usage: see the source")
	case args[0] == "sit":
		return sit(identity, args[2])
	}
	return try(identity, args[2])
}

func sit(identity sandbox.Identity, pid string) error {
	parent, err := strconv.Atoi(pid)
	if err != nil {
		return err
	}
	if err := sandbox.Enter(sandbox.Options{Identity: identity, Parent: parent}); err != nil {
		return err
	}
	fmt.Println("in")
	for {
		time.Sleep(time.Hour)
	}
}

func try(identity sandbox.Identity, cpu string) error {
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return err
	}
	w, err := prepare()
	if err != nil {
		return err
	}
	w.block(3) // threads that are in the kernel while all are changed
	if err := sandbox.Pin(n); err != nil {
		return err
	}
	var log bytes.Buffer
	if err := sandbox.Enter(sandbox.Options{
		Identity: identity, Parent: os.Getppid(), Log: slog.New(slog.NewTextHandler(&log, nil)),
	}); err != nil {
		return err
	}
	w.block(3) // and some that are new
	r := report{Attempts: attempts(), Failures: w.work()}
	r.Log = log.String()
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
