package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"ringroad/hack/lab"
)

// TestKernelTCPSeesNothing reads the edge's kernel TCP counters around a load: not one of them may move, for clients or backends.
func TestKernelTCPSeesNothing(t *testing.T) {
	start(t, bothFamilies)
	before := kernelTCP(t)
	families(t, func(t *testing.T, nginx, goServer string) {
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c64", "-d2", "http://"+nginx+"/"))
		checkWrk(t, inClient(t, 20*time.Second, "wrk", "-t1", "-c16", "-d1", "-H", "Connection: close", "http://"+goServer+"/"))
	})
	if moved := kernelTCP(t).Moved(before); len(moved) != 0 {
		t.Errorf("the kernel's TCP in the edge counted %v", moved)
	}
}

func kernelTCP(t *testing.T) lab.KernelTCP {
	t.Helper()
	k, err := shared.Edge.KernelTCP()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKernelKeepsServingBesideALoad uses a TCP server of the edge's kernel and ICMP echo on the interface that ringroad has, during a
// load. The kernel's TCP may count no more than that server's segments, and may not reset anything.
func TestKernelKeepsServingBesideALoad(t *testing.T) {
	start(t, bothFamilies)
	families(t, func(t *testing.T, nginx, _ string) {
		edge := lab.EdgeToClient4
		if nginx == nginx6 {
			edge = lab.EdgeToClient6
		}
		ln, err := shared.Edge.Listen("tcp", net.JoinHostPort(edge.String(), "9000"))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		var server sync.WaitGroup
		server.Go(func() { echoConnections(ln) })
		before := kernelTCP(t)

		load := shared.Client.Exec("wrk", "-t1", "-c64", "-d4", "http://"+nginx+"/")
		p, err := shared.Start("wrk", load)
		if err != nil {
			t.Fatal(err)
		}
		exchanges := 0
		for running := true; running; exchanges++ {
			if err := kernelEcho(ln.Addr().String()); err != nil {
				t.Errorf("kernel TCP, exchange %d: %v", exchanges+1, err)
				break
			}
			if err := shared.Client.Ping(edge, 2*time.Second); err != nil {
				t.Errorf("ping %d: %v", exchanges+1, err)
				break
			}
			select {
			case <-p.Done():
				running = false
			default:
			}
		}
		if err := p.Wait(20 * time.Second); err != nil {
			t.Error(err)
		}
		checkWrk(t, p.Output())
		ln.Close()
		server.Wait()
		moved := kernelTCP(t).Moved(before)
		// An exchange is a handshake, a request, an echo, two FINs and their ACKs.
		if limit := uint64(12 * exchanges); exchanges < 3 || moved["Tcp.InSegs"] > limit || moved["Tcp.OutRsts"] != 0 {
			t.Errorf("%d exchanges with the kernel's server; its TCP counted %v", exchanges, moved)
		}
	})
}

func echoConnections(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		c.Close()
	}
}

// kernelEcho sends a line to a server of the edge's kernel and expects it back.
func kernelEcho(address string) error { return kernelEchoFrom(shared, address) }

func kernelEchoFrom(l *lab.Lab, address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := l.Client.Dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	const line = "past the proxy\n"
	got := make([]byte, len(line))
	_, err = io.WriteString(c, line)
	if _, e := io.ReadFull(c, got); e != nil {
		err = errors.Join(err, e)
	}
	if err == nil && string(got) != line {
		err = fmt.Errorf("got %q", got)
	}
	return err
}
