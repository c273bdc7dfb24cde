// Command fail brings a failure about in a network of namespaces that it makes and removes, and shows by which counters, commands and
// log lines it is known, who suffers, and how ringroad recovers:
//
//	go run ./hack/fail             # what there is
//	go run ./hack/fail syn-queue
//
// It needs root and nginx (`make fail NAME=syn-queue` installs that). The exit status is 1 when anything was not as it should be.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"ringroad/hack/lab"
	"ringroad/hack/lab/failure"
)

func main() {
	lab.Child()
	binary := flag.String("binary", "", "ringroad binary to run; built from this tree when not given")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: fail [-binary FILE] [NAME]")
		flag.PrintDefaults()
	}
	flag.Parse()
	var err error
	switch flag.NArg() {
	case 0:
		list()
	case 1:
		err = run(flag.Arg(0), *binary)
	default:
		err = errors.New("one failure at a time")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fail:", err)
		os.Exit(1)
	}
}

func list() {
	fmt.Println("make fail NAME=... brings one of these about, and shows by what it is known:")
	fmt.Println()
	for _, s := range failure.All() {
		fmt.Printf("  %-18s %s\n", s.Name, s.About)
	}
}

func run(name, binary string) error {
	s, err := failure.Find(name)
	if err != nil {
		return err
	}
	l, err := lab.Up(s.Lab())
	if err != nil {
		return err
	}
	lab.CloseOnSignal(130, l)
	if binary == "" {
		binary, err = lab.BuildRingroad(l.Dir)
	}
	if err == nil {
		err = failure.Run(l, binary, s, os.Stdout)
	}
	l.EndedBySignal()
	return errors.Join(err, l.Close())
}
