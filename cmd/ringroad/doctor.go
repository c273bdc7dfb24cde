package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/doctor"
	"ringroad/proxy/config"
)

// errProblems makes the exit status of a doctor that found some.
var errProblems = errors.New("problems were found")

func newDoctor(socket *string) *cobra.Command {
	var flags config.Flags
	var asJSON, fix, undo bool
	cmd := &cobra.Command{
		Use:   "doctor [-c FILE | --interface NAME --listen ADDRESS --backend ADDRESS | NAME] [--fix | --undo]",
		Short: "Examine this host and a configuration",
		Long: `doctor examines the host and a configuration, before ringroad runs or while it
does, and prints a line for each check: ok, warning or problem, what is so and
what it means, and the command that mends it. The exit status is 1 when there is
a problem, 0 when there are warnings only.

It takes the flags of run. Without any it examines the configuration of the
running ringroad; with the name of an interface alone, the host and that
interface.

It changes nothing without --fix. What it sends are neighbour requests, and one
TCP connection of the kernel to each backend, which is closed at once.

--fix mends what takes no link down and is in nobody's way: settings that a
ringroad left behind when it was killed, an RSS table that gives workers different
shares, checksums that the other end of a veth leaves unfilled, offloads of a
driver that changes them quietly. The findings are marked as fixed, with the
commands that this equals; of everything else the command is left to you. What was
changed, but for what a killed ringroad left, is undone when the ringroad ends
that runs or, if none does, that is started next; or by --undo before that.`,
		Example: `  ringroad doctor -c /etc/ringroad.yaml
  ringroad doctor eth0
  ringroad doctor eth0 --fix
  ringroad doctor --undo
  ringroad doctor --json | jq '.[] | select(.severity != "ok")'`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && cmd.Flags().NFlag() > 0 && examines(flags) {
				return noArguments(cmd, args[len(args)-1:])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if undo {
				if fix || asJSON || len(args) > 0 || examines(flags) {
					return &usageError{cmd.CommandPath(), errors.New("--undo goes with --control alone: it examines nothing")}
				}
				return undoFixes(cmd, *socket)
			}
			cfg, err := patient(cmd, flags, args, *socket)
			if err != nil {
				return err
			}
			report := doctor.Examine(cmd.Context(), cfg, *socket)
			if fix {
				report.Fix(*socket)
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				err = e.Encode(report)
			} else {
				err = report.WriteText(cmd.OutOrStdout())
			}
			if report.Fixes() && !asJSON && err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), "\nWhat was changed is undone when ringroad ends, the one that runs or the next, or by `ringroad doctor --undo` before one runs.")
			}
			if n := report.Count(doctor.Problem); n > 0 && err == nil {
				err = fmt.Errorf("%w: %d", errProblems, n)
			}
			return err
		},
	}
	flags.Register(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the findings as JSON")
	cmd.Flags().BoolVar(&fix, "fix", false, "mend what can be mended without harm, until ringroad ends")
	cmd.Flags().BoolVar(&undo, "undo", false, "take back what --fix has changed, and what a killed ringroad left; examine nothing")
	return cmd
}

// undoFixes prints the commands that it equals.
func undoFixes(cmd *cobra.Command, socket string) error {
	restored, err := doctor.Undo(socket)
	for _, c := range restored {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), c.Undone()); err != nil {
			return err
		}
	}
	if len(restored) == 0 && err == nil {
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "nothing was changed, or somebody else has since")
	}
	return err
}

// examines reports whether the flags name a configuration.
func examines(f config.Flags) bool {
	return f.File != "" || len(f.Interfaces)+len(f.Listen)+len(f.Backends) > 0
}

// patient is the configuration to examine.
func patient(cmd *cobra.Command, flags config.Flags, args []string, socket string) (*config.Config, error) {
	switch {
	case examines(flags):
		return load(cmd, flags)
	case len(args) == 1:
		c := config.Default()
		c.Interfaces = args
		return c, nil
	}
	c, err := control.Dial(socket)
	if err != nil {
		return load(cmd, flags) // says which flags there are
	}
	defer c.Close()
	ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
	defer cancel()
	s, err := c.Status(ctx)
	if err != nil {
		return nil, err
	}
	if flags.File = s.Configuration.File; flags.File == "" {
		return nil, &usageError{cmd.CommandPath(), errors.New("the running ringroad was configured by flags: repeat them")}
	}
	return load(cmd, flags)
}
