package proxy

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"

	"ringroad/proxy/config"
)

// TestFailuresSayWhatHappened: whoever reads the line of a failure knows who it was,
// what was going on, which buffer to look at and how far it had come.
func TestFailuresSayWhatHappened(t *testing.T) {
	get := "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
	post := "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf"
	tests := []struct {
		name   string
		script func(n int, c net.Conn, in *bufio.Reader) // nil: nobody listens
		change func(*config.Config)
		send   string
		want   []string
	}{
		{"malformed head", nil, nil, "GET / HTTP/1.1\r\nHost : a\r\n\r\n", []string{
			`level=DEBUG`, `status=400`, `source=client`, `phase="reading the request head"`, `buffer="client receive"`, `offset=20`, `rule="RFC 9112, 5.1"`, `bytes.from_client=28`, `bytes.to_backend=0`}},
		{"slow head", nil, func(c *config.Config) { c.Timeouts.ClientHeader = long }, "GET / HT", []string{
			`status=408`, `timeout=1h0m0s`, `bytes.from_client=8`, `error="timed out waiting for the end of the request head (timeouts.client_header)"`}},
		{"slow body", func(n int, c net.Conn, in *bufio.Reader) { swallow(in) }, func(c *config.Config) { c.Timeouts.ClientBody = short }, post, []string{
			`status=408`, `source=client`, `phase="reading the request body"`, `backend=10.2.0.2:8080`, `timeout=60ms`, `bytes.from_client=51`, `timeouts.client_body`}},
		{"refused", nil, nil, get, []string{
			`level=WARN`, `upstream=app`, `backend=10.2.0.2:8080`, `status=502`, `source=backend`, `phase=connecting`, `bytes.from_client=27`, `bytes.to_backend=0`}},
		{"not connected", nil, func(c *config.Config) {
			c.Timeouts.Connect = short
			c.Upstreams[0].Servers[0] = netipPort(c.Upstreams[0].Servers[0], silentPort)
		}, get, []string{
			`backend=10.2.0.2:9999`, `status=504`, `phase=connecting`, `timeout=60ms`, `buffered.request=`, `timeouts.connect`}},
		{"no answer", func(n int, c net.Conn, in *bufio.Reader) { readHead(in) }, nil, get, []string{
			`status=502`, `phase="waiting for the response"`, `buffer="backend receive"`, `bytes.from_backend=0`, `error="connection closed before an answer"`}},
		{"garbage", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "SSH-2.0-x\r\n")
			swallow(in)
		}, nil, get, []string{
			`status=502`, `phase="waiting for the response"`, `offset=0`, `rule="RFC 9112, 4"`, `bytes.from_backend=11`}},
		{"silent", func(n int, c net.Conn, in *bufio.Reader) { swallow(in) }, func(c *config.Config) { c.Timeouts.BackendRead = short }, get, []string{
			`status=504`, `source=backend`, `timeout=60ms`, `error="timed out waiting for the backend to send (timeouts.backend_read)"`}},
		{"truncated", func(n int, c net.Conn, in *bufio.Reader) {
			readHead(in)
			say(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
		}, nil, get, []string{
			`phase="reading the response body"`, `buffer="backend receive"`, `bytes.from_backend=42`, `error="connection closed before the end of the message"`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, tt.change)
			r.silence()
			if tt.script != nil {
				r.script(8080, tt.script)
			}
			c := r.dial()
			c.send(tt.send)
			if tt.name == "slow head" {
				r.await("it was read", func(s *Stats) bool { return s.ClientBytesIn == uint64(len(tt.send)) })
				r.elapse(waitClientHeader, long)
			}
			_, _ = io.ReadAll(io.LimitReader(c.in, 1)) // whatever comes
			r.await("it has failed", func(s *Stats) bool { return s.ErrorsClient+s.ErrorsBackend > 0 })
			r.stop()
			log := r.log.String()
			for _, want := range append(tt.want, "client=10.1.0.2:", "elapsed=", "bytes.to_client=") {
				if !strings.Contains(log, want) {
					t.Errorf("no %s in\n%s", want, log)
				}
			}
		})
	}
}
