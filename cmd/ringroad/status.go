package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
)

func newStatus(socket *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running ringroad does",
		Long: `status shows the running ringroad: its configuration, interfaces, listeners and
upstreams, and a line for each worker. The exit status is 1 when none runs.

The columns of a worker: its process and CPU, the receive queues that it serves
on every interface, what it is about and for how long, how often it was
restarted; the connections open to clients and backends, requests since it
started, frames handed over to other workers; how late the last turn of its loop
was, and how long ago it gave a sign of life.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
			defer cancel()
			s, err := c.Status(ctx)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			_, err = io.WriteString(cmd.OutOrStdout(), statusText(&s))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print everything as JSON")
	return cmd
}

const timeFormat = "2006-01-02 15:04:05"

// statusText is a status for people.
func statusText(s *control.Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "ringroad %s is %s: process %d, since %s (%s)\n\n",
		or(s.Version, "of unknown version"), s.State, s.PID, s.Started.Local().Format(timeFormat), span(time.Duration(s.Uptime)))
	line := func(label, text string) { fmt.Fprintf(&b, "%-14s %s\n", label, text) }
	c := &s.Configuration
	line("configuration", fmt.Sprintf("%s, generation %d, loaded %s", or(c.File, "flags"), c.Generation, c.Loaded.Local().Format(timeFormat)))
	if c.Error != "" {
		line("", fmt.Sprintf("the reload of %s failed:", c.Failed.Local().Format(timeFormat)))
		for l := range strings.SplitSeq(c.Error, "\n") {
			line("", "  "+l)
		}
	}
	for k, i := range s.Interfaces {
		copied := "copies"
		if i.ZeroCopy {
			copied = "zero-copy"
		}
		if i.Reason != "" {
			copied += " (" + i.Reason + ")"
		}
		line(first(k, "interfaces"), fmt.Sprintf("%s: %s, %s, %s, queues %d, MTU %d", i.Name, i.Driver, i.Mode, copied, i.Queues, i.MTU))
		if i.State != control.LinkUp {
			line("", fmt.Sprintf("  %s since %s", i.State, i.Since.Local().Format(timeFormat)))
		}
		if i.TXChecksumReason != "" {
			by := "software"
			if i.TXChecksum {
				by = "offload"
			}
			line("", fmt.Sprintf("  checksums of what is sent: %s (%s)", by, i.TXChecksumReason))
		}
		if i.SYNCookiesByXDP {
			line("", fmt.Sprintf("  SYN cookies when a SYN queue is full: by XDP, %d so far", i.SYNCookies))
		} else {
			line("", "  SYN cookies when a SYN queue is full: by the loop")
		}
		line("", "  features: "+i.Features.String())
	}
	if s.Filter != nil {
		line("filter", s.Filter.String())
	}
	line("listeners", strings.Join(s.Listeners, ", "))
	for k, u := range s.Upstreams {
		line(first(k, "upstreams"), fmt.Sprintf("%s: %s", u.Name, strings.Join(u.Servers, ", ")))
	}
	b.WriteByte('\n')
	workerTable(&b, s)
	return b.String()
}

func first(k int, label string) string {
	if k > 0 {
		return ""
	}
	return label
}

func workerTable(w io.Writer, s *control.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { fmt.Fprintln(t, strings.Join(cells, "\t")) }
	row("WORKER", "PID", "CPU", "QUEUES", "STATE", "UP", "RESTARTS", "CLIENTS", "BACKENDS", "REQUESTS", "HANDED OVER", "BEAT")
	now := s.Started.Add(time.Duration(s.Uptime)) // by the clock of that host
	for _, k := range s.Workers {
		pid, cpu, up := strconv.Itoa(k.PID), strconv.Itoa(k.CPU), span(now.Sub(k.Started))
		if k.PID == 0 {
			pid, up = "-", "-"
		}
		if k.CPU < 0 {
			cpu = "any"
		}
		queues := make([]string, len(k.Queues))
		for i, q := range k.Queues {
			queues[i] = strconv.Itoa(q)
		}
		row(strconv.Itoa(k.Index), pid, cpu, strings.Join(queues, ","), string(k.State), up, strconv.Itoa(k.Restarts),
			number(k.Clients), number(k.Backends), number(k.Requests), number(k.HandedOver),
			time.Duration(k.Beat).Round(time.Millisecond).String())
	}
	t.Flush()
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// span is a length of time in its two largest units.
func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch d = max(d, 0).Truncate(time.Second); {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return d.String()
	}
}
