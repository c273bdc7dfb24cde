package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// scraper asks for metrics over and over, as a Prometheus would.
type scraper struct {
	end  context.CancelFunc
	done chan struct{}
}

// scrape asks at the admin endpoint, a unix socket, once a second.
func scrape(socket string) *scraper {
	ctx, end := context.WithCancel(context.Background())
	s := &scraper{end: end, done: make(chan struct{})}
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	go func() {
		defer close(s.done)
		defer client.CloseIdleConnections()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			if err := metrics(ctx, client); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "  no metrics: %v\n", err)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return s
}

func metrics(ctx context.Context, client *http.Client) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://ringroad/metrics", nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if n, err := io.Copy(io.Discard, response.Body); err != nil || n == 0 || response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s, %d bytes: %w", response.Status, n, err)
	}
	return nil
}

func (s *scraper) stop() {
	s.end()
	<-s.done
}
