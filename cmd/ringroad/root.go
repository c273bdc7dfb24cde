package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/master"
)

// Exit statuses, for scripts.
const (
	statusOK     = 0
	statusFailed = 1 // wrong configuration, or serving failed
	statusUsage  = 2 // wrong command line
)

// usageError is a mistake in the command line, as opposed to one in what it
// names.
type usageError struct {
	command string // "ringroad run"
	err     error
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%v (see `%s --help`)", e.err, e.command)
}

func (e *usageError) Unwrap() error { return e.err }

// execute runs one command line and returns the exit status. It is the one place
// that prints errors.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot(master.Run)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	return report(root.ExecuteContext(ctx), stderr)
}

// report prints err, one line a mistake, and returns the exit status.
func report(err error, stderr io.Writer) int {
	if err == nil {
		return statusOK
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "ringroad: %s\n", line)
	}
	if usage := (*usageError)(nil); errors.As(err, &usage) {
		return statusUsage
	}
	return statusFailed
}

func newRoot(serve serveFunc) *cobra.Command {
	var socket string
	root := &cobra.Command{
		Use:   "ringroad",
		Short: "HTTP reverse proxy on AF_XDP with a TCP of its own",
		Long: `ringroad is an HTTP reverse proxy that goes round the kernel's network stack:
an XDP program steers the packets of its listeners and backends into AF_XDP
sockets, a TCP in user space makes connections of them, and everything else on
the interface goes to the kernel as before.

Exit status: 0 success, 1 wrong configuration or failure, 2 wrong command line.`,
		Example: `  ringroad run --interface eth0 --listen :80 --backend 10.2.0.2:8080
  ringroad check -c /etc/ringroad.yaml
  ringroad run -c /etc/ringroad.yaml

  # of the one that runs
  ringroad status
  ringroad trace --path /api/
  ringroad capture port 80
  ringroad reload`,
		SilenceErrors: true, // report prints them
		SilenceUsage:  true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			err := fmt.Errorf("unknown command %q", args[0])
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				err = fmt.Errorf("%w (did you mean %s?)", err, strings.Join(near, " or "))
			}
			return &usageError{cmd.CommandPath(), err}
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return &usageError{cmd.CommandPath(), errors.New("a command is missing: run, check, doctor, status, top, connections, trace, capture, reload, quit, stop or version")}
		},
	}
	root.SuggestionsMinimumDistance = 2
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if number := (*strconv.NumError)(nil); errors.As(err, &number) {
			err = errors.New(strings.Replace(err.Error(), number.Error(), "want a whole number from 0 on", 1))
		}
		return &usageError{cmd.CommandPath(), err}
	})
	root.PersistentFlags().StringVar(&socket, "control", control.DefaultPath, "control socket at `PATH`: run makes it, commands reach the running one by it")
	root.AddCommand(newRun(serve, &socket), newCheck(), newStatus(&socket), newReload(&socket), newQuit(&socket), newStop(&socket), newDoctor(&socket), newTop(&socket), newConnections(&socket), newTrace(&socket), newCapture(&socket), newVersion())
	return root
}

// noArguments refuses arguments that are no flags.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{cmd.CommandPath(), fmt.Errorf("unexpected argument %q", args[0])}
}
