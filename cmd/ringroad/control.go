package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
)

// answerTimeout bounds how long a command waits for an answer.
var answerTimeout = 10 * time.Second // a variable for tests

const (
	// reloadTimeout bounds how long the master may take to read and to spread a
	// configuration.
	reloadTimeout = time.Minute
	// endTimeout bounds how long the master may take to end, and drainMargin how
	// much longer than timeouts.drain, where that is known.
	endTimeout  = time.Minute
	drainMargin = 10 * time.Second
)

func newReload(socket *string) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make the running ringroad read its configuration again",
		Long: `reload makes the running ringroad read its configuration file again, as SIGHUP
does, and waits until every worker serves by it. No connection is closed.

A configuration with a mistake changes nothing: the mistakes are printed, and the
exit status is 1. What cannot change while it runs is printed as a warning; the
rest of the new configuration is in use.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := limited(cmd.Context(), timeout, "no answer within %v: it may still reload, see `ringroad status`")
			defer cancel()
			warnings, err := c.Reload(ctx)
			for _, w := range warnings {
				cmd.PrintErrln("ringroad: warning:", w)
			}
			return err
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", reloadTimeout, "give up waiting after this `TIME`")
	return cmd
}

func newQuit(socket *string) *cobra.Command {
	return newEnd(socket, &cobra.Command{
		Use:   "quit",
		Short: "End the running ringroad when the requests under way are answered",
		Long: `quit ends the running ringroad gracefully, as SIGQUIT does: nothing more is
accepted, what is under way is finished, within timeouts.drain. It returns when
the process has ended.`,
	}, (*control.Client).Quit, "`ringroad stop` ends it at once")
}

func newStop(socket *string) *cobra.Command {
	return newEnd(socket, &cobra.Command{
		Use:   "stop",
		Short: "End the running ringroad at once",
		Long: `stop ends the running ringroad at once, as SIGTERM does: connections are cut
off. It returns when the process has ended. To let requests be answered first,
use quit.`,
	}, (*control.Client).Stop, "SIGKILL does, and leaves nothing attached")
}

// newEnd makes a command of one that ends the master and waits for that.
func newEnd(socket *string, cmd *cobra.Command, end func(*control.Client, context.Context) error, remedy string) *cobra.Command {
	var timeout time.Duration
	cmd.Args = noArguments
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := control.Dial(*socket)
		if err != nil {
			return err
		}
		defer c.Close()
		if !cmd.Flags().Changed("timeout") {
			ctx, cancel := limited(cmd.Context(), answerTimeout/2, "no answer within %v")
			// Without an answer there is still a chance that it ends.
			if s, err := c.Status(ctx); err == nil && s.DrainTimeout > 0 {
				timeout = time.Duration(s.DrainTimeout) + drainMargin
			}
			cancel()
		}
		ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
		defer cancel()
		if err := end(c, ctx); err != nil || timeout <= 0 {
			return err
		}
		ctx, cancel = limited(cmd.Context(), timeout, "not within %v; "+remedy)
		defer cancel()
		return c.Wait(ctx)
	}
	cmd.Flags().DurationVar(&timeout, "timeout", endTimeout,
		"give up waiting after this `TIME`, 0s: do not wait (the default is longer where timeouts.drain is)")
	return cmd
}

// limited is a context that ends after d for a reason, which is given d.
func limited(ctx context.Context, d time.Duration, reason string) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, d, fmt.Errorf(reason, d))
}
