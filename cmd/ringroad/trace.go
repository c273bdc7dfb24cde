package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/trace"
)

// traceFlags are those that are not trace.Options as they stand.
type traceFlags struct {
	trace.Options
	client string
	json   bool
	svg    string
	all    bool
	stop   bool
}

func newTrace(socket *string) *cobra.Command {
	var f traceFlags
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Follow requests through every buffer and queue",
		Long: `trace follows requests on their way: RX ring, SYN queue, accept queue, receive
buffer, ready list, the worker, the connection to the backend, send buffer, TX
ring, the last acknowledgment; and prints a time line of each when it is over.

Without flags it follows the next request and ends. The filters combine. A request
that is slower than --slower can only be told at its end, so all that pass the
other filters are followed: on a busy host add --sample.

Times are in microseconds since the first event, from the monotonic clock. Frames
have the time at which the loop took them from the RX ring.

Workers never wait for a trace: a time line that finds its buffer full is counted
as lost. It ends at Ctrl-C; one trace can run at a time.`,
		Example: `  ringroad trace
  ringroad trace --next 2 --path /api/ --svg /tmp/trace.svg
  ringroad trace --next 0 --sample 1000 --json > requests.ndjson
  ringroad trace --client 192.0.2.0/24 --slower 100ms -d 1m`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			if f.stop {
				ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
				defer cancel()
				return c.StopTrace(ctx)
			}
			return f.follow(cmd, c)
		},
	}
	flags := cmd.Flags()
	flags.Uint64Var(&f.Next, "next", 1, "end after `N` requests; 0: at Ctrl-C")
	flags.Uint64Var(&f.Sample, "sample", 1, "follow one request in `N`")
	flags.StringVar(&f.client, "client", "", "only requests of clients in this `CIDR`, or of one address")
	flags.StringVar(&f.Path, "path", "", "only requests whose target begins with this `PREFIX`")
	flags.DurationVar(&f.Slower, "slower", 0, "only requests that took at least this `DURATION`")
	flags.DurationVarP(&f.Duration, "duration", "d", 0, "end after this `TIME`")
	flags.BoolVar(&f.json, "json", false, "print each request as a line of JSON")
	flags.StringVar(&f.svg, "svg", "", "draw the requests on one time axis, in `FILE`")
	flags.BoolVar(&f.all, "all", false, "print every event, of long requests too")
	flags.BoolVar(&f.stop, "stop", false, "end the trace that is running, whoever began it")
	return cmd
}

// check refuses what cannot be.
func (f *traceFlags) check() (err error) {
	if f.Client, err = trace.ParseClient(f.client); err != nil {
		return fmt.Errorf("--client: %w", err)
	}
	if f.json && f.svg != "" {
		return errors.New("--json and --svg: want one of them")
	}
	return f.Check()
}

// follow traces until it is over, and shows what came.
func (f *traceFlags) follow(cmd *cobra.Command, c *control.Client) error {
	var drawing *os.File
	var drawn []*trace.Line
	if f.svg != "" {
		var err error
		// A mistake in its name should not cost the trace.
		if drawing, err = os.OpenFile(f.svg, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			return err
		}
		defer drawing.Close()
		defer func() {
			if info, err := drawing.Stat(); err == nil && info.Size() == 0 {
				os.Remove(f.svg) //nolint:errcheck // nothing was to be drawn
			}
		}()
	}
	var sum trace.Summary
	started := false
	err := follow(cmd, "trace", c.StopTrace,
		func(ctx context.Context) (io.ReadCloser, error) { return c.Trace(ctx, f.Options) },
		func(from io.Reader) (err error) {
			started = true
			sum, err = trace.Copy(from, func(b trace.Began) {
				cmd.PrintErrf("ringroad: following requests on %s\n", strings.Join(b.Interfaces, ", "))
			}, func(text json.RawMessage) error {
				if f.json {
					_, err := cmd.OutOrStdout().Write(append(text, '\n'))
					return err
				}
				l := new(trace.Line)
				if err := json.Unmarshal(text, l); err != nil {
					return fmt.Errorf("what ringroad sent is no time line: %w", err)
				}
				if drawing != nil {
					drawn = append(drawn, l)
					return nil
				}
				return trace.Print(cmd.OutOrStdout(), l, f.all)
			})
			return err
		})
	if drawing != nil && len(drawn) > 0 {
		err = errors.Join(err, drawing.Truncate(0), trace.Draw(drawing, drawn))
	}
	if started {
		cmd.PrintErr(traceSummary(sum))
	}
	return err
}

func traceSummary(s trace.Summary) string {
	text := fmt.Sprintf("%d requests followed\n", s.Lines)
	if s.Lost > 0 {
		text += fmt.Sprintf("%d time lines lost because a buffer was full: --sample makes them fewer\n", s.Lost)
	}
	if s.Missed > 0 {
		text += fmt.Sprintf("%d requests not followed because too many were at a time: --sample makes them fewer\n", s.Missed)
	}
	return text
}
