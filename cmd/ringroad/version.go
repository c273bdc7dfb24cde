package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// shown are the modules whose versions matter in a report: label and path.
var shown = [][2]string{
	{"gvisor", "gvisor.dev/gvisor"},
	{"ebpf", "github.com/cilium/ebpf"},
	{"xdp", "github.com/asavie/xdp"},
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, and those of what it is built with",
		Long: `version prints the version and the commit of ringroad, the version of Go and the
versions of the modules that its packets pass. Put it into every report.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				info = &debug.BuildInfo{GoVersion: runtime.Version()}
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), versionText(version, info))
			return err
		},
	}
}

// versionText renders what a binary knows of itself. name is the version that
// the build gave it, "" for the one that the Go tool found.
func versionText(name string, info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if name == "" {
		name = info.Main.Version
	}
	commit := settings["vcs.revision"]
	if settings["vcs.modified"] == "true" {
		commit += " (modified)"
	}
	var b strings.Builder
	line := func(label, value string) { fmt.Fprintf(&b, "%-9s %s\n", label, or(value, "unknown")) }
	line("ringroad", name)
	line("commit", commit)
	line("go", fmt.Sprintf("%s %s/%s", info.GoVersion, runtime.GOOS, runtime.GOARCH))
	for _, s := range shown {
		line(s[0], moduleVersion(info, s[1]))
	}
	return b.String()
}

func moduleVersion(info *debug.BuildInfo, path string) string {
	for _, m := range info.Deps {
		if m.Path == path {
			if m.Replace != nil {
				m = m.Replace
			}
			return m.Version
		}
	}
	return ""
}
