// Command ringroad is an HTTP reverse proxy that goes round the kernel's network
// stack. `ringroad help` says how to use it.
package main

import (
	"context"
	"os"

	"ringroad/cmd/internal/worker"
)

// version is set by the linker (-X main.version=...).
var version string

func main() {
	if worker.IsProcess() {
		os.Exit(worker.Main())
	}
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
