package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/tui"
	"ringroad/proxy"
)

func newConnections(socket *string) *cobra.Command {
	var asJSON bool
	var client, order string
	q := proxy.Query{}
	cmd := &cobra.Command{
		Use:   "connections",
		Short: "Show the client connections of the running ringroad",
		Long: `connections shows what each client connection is about, as ss does for sockets of
the kernel: a line with the state of the connection and since when, its round
trip, congestion window, what its receive and its send buffer hold, segments sent
again, the request under way, the backend that serves it and whether that
connection was new or pooled. --json has more, of TCP of both sides too.

States: idle, header (of the PROXY protocol), head (of the request), connect, send
(the request to the backend), wait (for its response), relay (the response),
answer (one of our own), tunnel, closing.

Queries of request targets are never shown, nor fields, nor bodies. A worker looks
at so few connections between two turns of its loop that no request notices.`,
		Example: `  ringroad connections --sort rtt
  ringroad connections --client 192.0.2.0/24 --limit 100
  ringroad connections --json | jq '.connections[] | select(.state == "wait")'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			q.Order = proxy.Order(order)
			if q.Client, err = trace.ParseClient(client); err != nil {
				err = fmt.Errorf("--client: %w", err)
			} else if err = q.Check(); err != nil {
				err = fmt.Errorf("--%w", err)
			}
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			c, err := control.Dial(*socket)
			if err != nil {
				return err
			}
			defer c.Close()
			ctx, cancel := limited(cmd.Context(), answerTimeout, "no answer within %v")
			defer cancel()
			found, err := c.Connections(ctx, q)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(cmd.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(found)
			}
			return tui.PrintConnections(cmd.OutOrStdout(), &found, q.Order)
		},
	}
	orders := make([]string, len(proxy.Orders))
	for i, o := range proxy.Orders {
		orders[i] = string(o)
	}
	flags := cmd.Flags()
	flags.BoolVar(&asJSON, "json", false, "print everything as JSON")
	flags.StringVar(&client, "client", "", "only connections of clients in this `CIDR`, or of one address")
	flags.IntVar(&q.Limit, "limit", control.DefaultLimit, "at most `N` connections")
	flags.StringVar(&order, "sort", string(proxy.ByRequest), "which come first, by `ORDER`: "+strings.Join(orders, ", ")+"; the longest, oldest or most")
	return cmd
}
