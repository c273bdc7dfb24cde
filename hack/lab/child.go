package lab

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
)

// childArgument is the first argument of a binary that is executed again as a child of a lab; the second names its role.
const childArgument = "ringroad-lab-child"

// Child turns a process that a lab started as its Go server or fault link into that, and does not return then. In every other
// process it does nothing. Call it before anything else.
func Child() {
	if len(os.Args) < 3 || os.Args[1] != childArgument {
		return
	}
	var err error
	switch role := os.Args[2]; role {
	case "backend":
		err = serveBackend(os.Args[3:])
	case "fault":
		err = runFault(os.Args[3:])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab child:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child returns the command that runs this binary again in a role inside the namespace.
func (n *Namespace) child(role string, args ...string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own executable: %w", err)
	}
	return n.Exec(self, append([]string{childArgument, role}, args...)...), nil
}

func serveBackend(args []string) error {
	set := flag.NewFlagSet("backend", flag.ContinueOnError)
	listen := set.String("listen", "", "addresses, separated by commas")
	files := set.String("files", "", "directory that /f/ serves")
	if err := set.Parse(args); err != nil {
		return err
	}
	return backend.Serve(strings.Split(*listen, ","), *files)
}

func runFault(args []string) error {
	set := flag.NewFlagSet("fault", flag.ContinueOnError)
	edge := set.String("edge", "", "interface that leads to the edge")
	text := set.String("options", "", faultlink.Usage)
	if err := set.Parse(args); err != nil {
		return err
	}
	o, err := faultlink.Parse(*text)
	if err != nil {
		return err
	}
	return faultlink.Run("w0", "w1", *edge, o, os.Stdout)
}
