package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// follow reads a feed of the running ringroad until it is over by itself, or a signal
// ends it; what there is until then still comes. A second signal ends the process.
func follow(cmd *cobra.Command, name string, stop func(context.Context) error,
	start func(context.Context) (io.ReadCloser, error), read func(io.Reader) error,
) error {
	ctx, cancel := context.WithCancel(context.WithoutCancel(cmd.Context()))
	defer cancel()
	signals, restore := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM)
	defer restore()
	defer context.AfterFunc(signals, func() {
		restore()
		limit, done := limited(ctx, answerTimeout, "no answer within %v")
		defer done()
		if err := stop(limit); err != nil {
			cancel()
		}
	})()
	from, err := start(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	if err = read(from); errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("ringroad ended in the middle of the %s", name)
	}
	return err
}
