package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/control"
)

// captureFlags are those that are not capture.Options as they stand.
type captureFlags struct {
	capture.Options
	direction string
	bufferKiB int
	write     string
	fileMB    int64
	seconds   int
	keep      int
	stop      bool
}

func newCapture(socket *string) *cobra.Command {
	var f captureFlags
	cmd := &cobra.Command{
		Use:   "capture [-w FILE] [EXPRESSION]",
		Short: "Show the frames that pass, which tcpdump cannot see",
		Long: `capture shows the frames of all workers in both directions: what ringroad receives
and sends goes round the place where tcpdump looks. Frames for the kernel (ssh,
ARP) are not among them; those are tcpdump's.

It takes tcpdump's filter expressions: hosts, nets, ports, protocols, the bytes of
headers, and, or, not. Without -w it prints a line for each frame; with it, it
writes pcapng for Wireshark, with the direction, the queue, and, in a comment, the
worker and what became of the frame. Times are when the loop took the frame from
its ring, or gave it to the kernel. Where tx_checksum is offload, as ringroad status
tells, checksums of what is sent are still to be filled in, as in tcpdump.

A frame that one worker hands over to another is shown once, where it came in;
--handed shows it again at the worker that was handed it.

Workers never wait for a capture: frames that find its buffer full are counted as
dropped, and pass as ever. It ends at Ctrl-C; one capture can run at a time.`,
		Example: `  ringroad capture tcp port 80 and host 192.0.2.7
  ringroad capture -w /tmp/all.pcapng -d 10s
  ringroad capture -w - | wireshark -k -i -
  ringroad capture 'tcp[tcpflags] & (tcp-syn|tcp-rst) != 0'
  ringroad capture -w /var/tmp/r.pcapng -C 100 -W 10 -s 128 port 8080`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Filter = strings.Join(args, " ")
			to, err := f.consumer(cmd)
			if err != nil {
				return err
			}
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			if f.stop {
				ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
				defer cancel()
				return c.StopCapture(ctx)
			}
			return f.follow(cmd, c, to)
		},
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.write, "write", "w", "", "write pcapng to `FILE`, -: to standard output")
	flags.Uint64VarP(&f.Count, "count", "c", 0, "end after `N` frames")
	flags.DurationVarP(&f.Duration, "duration", "d", 0, "end after this `TIME`")
	flags.IntVarP(&f.SnapLen, "snaplen", "s", 0, "keep this many `BYTES` of a frame (default all)")
	flags.StringVarP(&f.direction, "direction", "Q", "inout", "frames of this `DIRECTION`: in, out or inout")
	flags.BoolVar(&f.Handed, "handed", false, "show frames that were handed over once more, at the worker that got them")
	flags.IntVarP(&f.bufferKiB, "buffer-size", "B", capture.DefaultBufferBytes>>10, "buffer of each worker in `KiB`")
	flags.Int64VarP(&f.fileMB, "file-size", "C", 0, "begin another file, FILE1 and so on, before one has more than this many `MB` (1000000 bytes)")
	flags.IntVarP(&f.seconds, "file-seconds", "G", 0, "begin another file after this many `SECONDS`")
	flags.IntVarP(&f.keep, "file-count", "W", 0, "with -C or -G: after `N` files overwrite the oldest")
	flags.BoolVar(&f.stop, "stop", false, "end the capture that is running, whoever began it")
	return cmd
}

// consumer says where the frames go. Its errors are mistakes in the command line.
func (f *captureFlags) consumer(cmd *cobra.Command) (capture.Consumer, error) {
	f.Direction, f.BufferBytes = capture.Direction(f.direction), f.bufferKiB<<10
	err := f.Check()
	rotates := f.fileMB != 0 || f.seconds != 0
	switch {
	case err != nil:
	case f.fileMB < 0 || f.seconds < 0 || f.keep < 0:
		err = errors.New("files of a negative size, time or number")
	case rotates && (f.write == "" || f.write == "-"):
		err = errors.New("-C and -G need -w with the name of a file")
	case f.keep != 0 && !rotates:
		err = errors.New("-W needs -C or -G")
	}
	if err != nil {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	if f.write == "" {
		return capture.NewPrinter(cmd.OutOrStdout()), nil
	}
	return &capture.Files{
		Path: f.write, Bytes: f.fileMB * 1000000, Every: time.Duration(f.seconds) * time.Second, Keep: f.keep,
		Stdout: cmd.OutOrStdout(),
	}, nil
}

// follow captures until it is over.
func (f *captureFlags) follow(cmd *cobra.Command, c *control.Client, to capture.Consumer) error {
	began := time.Now()
	var sum capture.Summary
	started := false
	err := follow(cmd, "capture", c.StopCapture,
		func(ctx context.Context) (io.ReadCloser, error) { return c.Capture(ctx, f.Options) },
		func(from io.Reader) (err error) {
			started, began = true, time.Now()
			sum, err = capture.Copy(to, from, func(links []string) {
				cmd.PrintErrf("ringroad: capturing on %s\n", strings.Join(links, ", "))
			})
			return err
		})
	if !started {
		return err
	}
	cmd.PrintErr(captureSummary(sum, time.Since(began)))
	return errors.Join(err, to.Close())
}

// captureSummary is what tcpdump says at its end.
func captureSummary(s capture.Summary, took time.Duration) string {
	text := fmt.Sprintf("%d frames captured in %s\n%d frames accepted by the filter\n%d frames dropped because a buffer was full",
		s.Captured, took.Round(time.Millisecond), s.Accepted, s.Dropped)
	if s.Dropped > 0 {
		text += ": a larger --buffer-size, a smaller --snaplen or a narrower filter helps"
	}
	return text + "\n"
}
