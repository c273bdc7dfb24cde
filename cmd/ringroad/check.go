package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/spf13/cobra"

	"ringroad/proxy/config"
)

func newCheck() *cobra.Command {
	var flags config.Flags
	var whole bool
	cmd := &cobra.Command{
		Use:   "check -c FILE",
		Short: "Check a configuration without serving",
		Long: `check reads a configuration as run would and reports every mistake in it, each
with line, column and key. It looks at the configuration alone: whether the
interfaces exist and the backends answer is found out by run.

It takes the flags of run too, so that with --print it makes a file of them.`,
		Example: `  ringroad check -c /etc/ringroad.yaml

  # turn flags into a file that holds every key with its value
  ringroad check --interface eth0 --listen :80 --backend 10.2.0.2:8080 --print > ringroad.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, flags)
			if err != nil {
				return err
			}
			if whole {
				_, err = io.WriteString(cmd.OutOrStdout(), cfg.YAML())
				return err
			}
			name := flags.File
			if name == "" {
				name = "flags"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n%s", name, summary(cfg))
			return err
		},
	}
	flags.Register(cmd.Flags())
	cmd.Flags().BoolVar(&whole, "print", false, "print the whole configuration, defaults included, instead of a summary")
	return cmd
}

// summary says in a few lines what a configuration serves.
func summary(c *config.Config) string {
	var b strings.Builder
	fmt.Fprintf(&b, "interfaces: %s\n", strings.Join(c.Interfaces, ", "))
	for i := range c.Listeners {
		l := &c.Listeners[i]
		fmt.Fprintf(&b, "listener %s:", l.Address)
		for j := range l.Routes {
			r := &l.Routes[j]
			switch {
			case len(l.Routes) > 1:
				b.WriteString("\n ")
				fallthrough
			case r.Host != "" || r.Path != "":
				fmt.Fprintf(&b, " host %s, path %s, to", or(r.Host, "any"), or(r.Path, "any"))
			default:
				b.WriteString(" all to")
			}
			switch {
			case r.Redirect != nil:
				fmt.Fprintf(&b, " %s (redirect %d)", r.Redirect.Location, r.Redirect.Status)
			case r.Return != nil:
				fmt.Fprintf(&b, " a fixed answer, %d", r.Return.Status)
			default:
				fmt.Fprintf(&b, " %s", r.Upstream)
			}
		}
		b.WriteByte('\n')
	}
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		fmt.Fprintf(&b, "upstream %s: %s\n", u.Name, addresses(u.Servers))
	}
	return b.String()
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func addresses(list []netip.AddrPort) string {
	text := make([]string, len(list))
	for i, a := range list {
		text[i] = a.String()
	}
	return strings.Join(text, ", ")
}
