package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/tui"
	"ringroad/proxy"
)

const (
	defaultInterval = time.Second
	// plainWidth is that of text which goes to no terminal.
	plainWidth = 120
)

func newTop(socket *string) *cobra.Command {
	var once bool
	interval := defaultInterval
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the buffers of the running ringroad, live",
		Long: `top shows what the running ringroad holds and how fast it is: a column for each
worker, a row for each buffer in the order in which a request passes them, from
the NIC's fill ring to the completion ring, and the rates below.

  [####......] 1638/4096 ^2100 !12   level, capacity, high-water mark, times full
  [##########] 4096/4096 ^4096 !+3   it was full three times since the last reading

What a worker has on several interfaces is added up. The fill ring is full, of
frames to receive into, when all is well: there ! means that it was empty. The key
w shows one worker after the other, with what each row means.

The key c shows the client connections: what each is about and since when, its
round trip, what the receive and the send buffer hold, segments sent again, the
request; and below, of the one that is marked, TCP of both sides, the backend, and
the request in full. ringroad connections prints the same.

Keys: q quit, p pause, + and - interval, w worker by worker, left and right where
not all workers have room; c connections and back, there s sorts in another way, /
asks for the clients to show, up, down, page up and page down move. Where standard output is no terminal, or a dumb one, it
does what --once does. NO_COLOR in the environment leaves colours out.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < tui.MinInterval {
				return &usageError{cmd.CommandPath(), fmt.Errorf("--interval %v: %v is the least", interval, tui.MinInterval)}
			}
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			source := func(ctx context.Context) (r tui.Reading, err error) {
				ctx, cancel := limited(ctx, answerTimeout, "no answer within %v")
				defer cancel()
				if r.Status, err = c.Status(ctx); err == nil {
					r.Stats, err = c.Stats(ctx)
				}
				return r, err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			out := cmd.OutOrStdout()
			width, ok := terminal(out)
			if once || !ok || os.Getenv("TERM") == "dumb" {
				err := tui.Once(ctx, source, interval, width, out)
				if err == nil && ok && !once { // last, so that it is not scrolled away
					cmd.PrintErrln("ringroad: TERM is dumb, so this was one reading, as of --once")
				}
				return err
			}
			connections := func(ctx context.Context, q proxy.Query) (control.Connections, error) {
				ctx, cancel := limited(ctx, answerTimeout, "no answer within %v")
				defer cancel()
				return c.Connections(ctx, q)
			}
			return tui.Run(ctx, source, connections, interval, os.Stdin, out)
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print one reading as text and exit; rates are those of one interval")
	cmd.Flags().DurationVar(&interval, "interval", interval, "take a reading every `TIME`, 200ms at least")
	return cmd
}

// terminal returns the width of what is written to, and whether it is a terminal.
func terminal(w io.Writer) (width int, ok bool) {
	f, ok := w.(*os.File)
	if !ok {
		return plainWidth, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return plainWidth, err == nil
	}
	return int(size.Col), true
}
