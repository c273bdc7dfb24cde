package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"ringroad/cmd/internal/master"
	"ringroad/proxy/config"
)

// serveFunc serves a configuration until the context is done: master.Run.
type serveFunc func(context.Context, *config.Config, master.Options) error

func newRun(serve serveFunc, socket *string) *cobra.Command {
	var flags config.Flags
	var statsFile, cpuProfile string
	cmd := &cobra.Command{
		Use:   "run {-c FILE | --interface NAME --listen ADDRESS --backend ADDRESS}",
		Short: "Serve until SIGTERM or SIGINT",
		Long: `run serves in the foreground: a master process, and a worker process for each
receive queue. Signals to the master:

  TERM, INT  stop at once (ringroad stop)
  QUIT       finish what is under way, within timeouts.drain, and end (ringroad quit)
  HUP        read the configuration again (ringroad reload)
  USR1       open the access log anew, after it was renamed
  WINCH      drain the workers and give their traffic to the kernel, until HUP

It needs root, or the capabilities CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and
CAP_PERFMON; workers give up all of them, and root, once their sockets are open.
Messages go to standard error; where requests are logged is the configuration's
to say (log.access).

Without a file, the three flags --interface, --listen and --backend say all that
is needed, and everything else has its default. Beside a file, --interface and
--log-level take the place of what the file says; --listen and --backend are
refused, because the file names listeners and upstreams.

--stats-file is for scripts and tests: the file is replaced as a whole every
second and once more at the end, so that a reader never sees half of it.`,
		Example: `  # everything that arrives for port 80, over IPv4 and IPv6, to one backend
  ringroad run --interface eth0 --listen :80 --backend 10.2.0.2:8080

  # two backends in turn, one listening address
  ringroad run --interface eth0 --listen 192.0.2.1:80 \
      --backend 10.2.0.2:8080 --backend 10.2.0.3:8080

  # the same file on a host whose interface has another name
  ringroad run -c /etc/ringroad.yaml --interface enp3s0`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(cmd, flags)
			if err != nil {
				return err
			}
			// The first signal ends serving in order; with the handler gone the
			// second ends the process.
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			context.AfterFunc(ctx, stop)
			defer stop()
			var level slog.LevelVar
			level.Set(cfg.Log.Level)
			return serve(ctx, cfg, master.Options{
				Load: func() (*config.Config, error) { return load(cmd, flags) },
				File: flags.File, Version: version, Control: *socket, StatsFile: statsFile, CPUProfile: cpuProfile,
				Level: &level, Log: slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: &level})),
			})
		},
	}
	flags.Register(cmd.Flags())
	cmd.Flags().StringVar(&cpuProfile, "cpu-profile", "", "write a CPU profile of the first worker to `FILE`, for go tool pprof; those of others have the worker's number behind the name")
	cmd.Flags().StringVar(&statsFile, "stats-file", "", "write all counters as JSON to `FILE`, every second and at the end")
	return cmd
}

// load makes the configuration that the flags of a command ask for. Flags that
// contradict one another, or say nothing, are mistakes in the command line.
func load(cmd *cobra.Command, f config.Flags) (*config.Config, error) {
	if f.File == "" && len(f.Interfaces)+len(f.Listen)+len(f.Backends) == 0 {
		return nil, &usageError{cmd.CommandPath(), errors.New("no configuration: name a file with --config, or use --interface, --listen and --backend")}
	}
	cfg, err := f.Load()
	if errors.Is(err, config.ErrFlags) {
		return nil, &usageError{cmd.CommandPath(), err}
	}
	if err != nil && f.File != "" && !errors.As(err, new(config.Errors)) {
		err = fmt.Errorf("%w: is the path after --config right?", err)
	}
	return cfg, err
}
