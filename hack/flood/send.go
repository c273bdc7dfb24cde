package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/flood"
)

// senderArgument makes the program the process that floods, so that the requests of the others need not wait in one with it. The kind, a
// rate, a duration and the gateway's Ethernet address follow.
const senderArgument = "flood"

// send floods from the client until stop is closed, or for so long, and returns how many frames or requests were sent. rate is how many
// a second at most; 0: as fast as it goes.
func send(l *lab.Lab, kind flood.Kind, rate int, most time.Duration, stop <-chan struct{}) (int, error) {
	gateway, err := flood.Gateway(l.Edge, lab.EdgeClientLink)
	if err != nil {
		return 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	c := l.Client.Exec(self, senderArgument, string(kind), strconv.Itoa(rate), most.String(), gateway.String())
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	if err := c.Start(); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- c.Wait() }()
	select {
	case <-stop:
		if err := c.Process.Signal(syscall.SIGTERM); err != nil {
			return 0, err
		}
		err = <-done
	case err = <-done:
	}
	if err != nil {
		return 0, fmt.Errorf("flood: %w", err)
	}
	return strconv.Atoi(strings.TrimSpace(out.String()))
}

// sender is the process. It prints what send returns.
func sender(args []string) error {
	rate, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	most, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	gateway, err := net.ParseMAC(args[3])
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	var sent int
	if kind := flood.Kind(args[0]); kind == httpFlood {
		sent = floodHTTP(ctx, rate, most)
	} else {
		sent, err = flood.SendHere("c0", gateway, flood.Options{
			Kind: kind, To: netip.MustParseAddrPort(address), Frames: 20_000_000, For: most, Rate: rate,
		}, ctx.Done())
	}
	fmt.Println(sent)
	return err
}
