package main

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"ringroad/hack/lab/flood"
)

// httpFlood is requests of one address, more than a client may send: half of its connections bring one request each, the others as many
// as they are let.
const httpFlood flood.Kind = "http"

// flooders is how many connections it has at a time, four times what a client may have.
const flooders = 4 * clientConnections

// floodHTTP floods until ctx ends, or for so long, and returns how many requests were sent, or could not be for want of a connection. rate
// is how many a second at most; 0: as fast as they are answered.
func floodHTTP(ctx context.Context, rate int, most time.Duration) int {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	p := pace{start: time.Now(), perSecond: rate}
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: source(0).AsSlice()}}
	var all sync.WaitGroup
	for i := range flooders {
		all.Go(func() {
			for p.next(ctx) {
				if c, err := dialer.DialContext(ctx, "tcp4", address); err == nil {
					_ = c.(*net.TCPConn).SetLinger(0) // its end is a reset: a port in TIME_WAIT would be missing
					p.requests(ctx, c, i%2 == 0)
				}
			}
		})
	}
	all.Wait()
	return int(p.sent.Load())
}

// pace counts what is sent.
type pace struct {
	start     time.Time
	perSecond int // 0: no limit
	sent      atomic.Int64
}

// next waits until one more may be sent, and reports false when ctx ended.
func (p *pace) next(ctx context.Context) bool {
	if n := p.sent.Load(); p.perSecond > 0 {
		select {
		case <-time.After(time.Until(p.start.Add(time.Duration(n) * time.Second / time.Duration(p.perSecond)))):
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return false
	}
	p.sent.Add(1)
	return true
}

// requests sends the request that was counted, and if more is set others, until the connection is closed. It closes c.
func (p *pace) requests(ctx context.Context, c net.Conn, more bool) {
	unblock := context.AfterFunc(ctx, func() { c.Close() })
	defer unblock()
	defer c.Close()
	in := bufio.NewReader(c)
	for request(c, in) != 0 && more && p.next(ctx) {
	}
}
