package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
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
	starting, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	silent := time.AfterFunc(answerTimeout, func() { giveUp(fmt.Errorf("%w within %v", control.ErrSilent, answerTimeout)) })
	from, err := start(starting) // what it returns lives as long as its context
	if err != nil {
		return err
	}
	defer from.Close()
	if !silent.Stop() {
		return context.Cause(starting) // just too late
	}
	if err = read(from); errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("ringroad ended in the middle of the %s", name)
	}
	return err
}
