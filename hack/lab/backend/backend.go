// Package backend is the Go server of the lab: what nginx cannot do as a backend (digest of an upload, echo, slow and broken
// responses, a dump of the request it got), and a stand-in for nginx where that is not installed.
//
//	/                 "hello world\n"
//	/empty            200 without a body
//	/f/NAME           a file of the lab
//	/bytes/N          N bytes of Body("bytes", N), with Content-Length; with ?chunked in chunks
//	/digest           reads the request body, answers a Digest as JSON; with ?sha256=SUM 422 when the body has another
//	/discard          reads the request body, answers without one
//	/echo             the request body, framed as the request was
//	/request          a Request as JSON: what arrived
//	/status/N         status N without a body of its own making
//	/slow?header=D    waits for a duration before the header; ?body=D in the middle of the body
//	/close?after=N    declares 2N bytes of body, sends N, closes the connection; without after closes before any byte
//	/trailer          a chunked body with a trailer field
//	/early            103 with a Link field, then "hello world\n"
//	/upgrade          101 when asked to upgrade to "echo", then every byte back, to the end
//	/websocket        every message back
//
// Every response carries X-Backend-Connection, the number of the connection it came over, counted from 1.
package backend

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

// Digest describes a request body that /digest has read.
type Digest struct {
	Bytes   int64  `json:"bytes"`
	SHA256  string `json:"sha256"` // hexadecimal
	Chunked bool   `json:"chunked"`
	Expect  bool   `json:"expect"` // the request asked for 100 (Continue)
}

// Upload is what /digest?stall answers: a Digest with how the body came.
type Upload struct {
	Digest
	Stall time.Duration `json:"stall_ns"` // the longest that no part of it came
}

// Request is the header of a request as it arrived.
type Request struct {
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Proto   string      `json:"proto"`
	Host    string      `json:"host"`
	Header  http.Header `json:"header"`
	Length  int64       `json:"length"` // -1: chunked
	Remote  string      `json:"remote"`
	Trailer http.Header `json:"trailer,omitempty"`
}

// Body returns n bytes that follow from the seed alone.
func Body(seed string, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8(sha256.Sum256([]byte(seed))), n)
}

// Sum returns the SHA-256 of a reader in hexadecimal, and its length.
func Sum(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// Stalls is a reader that notes the longest that a Read took.
type Stalls struct {
	io.Reader
	Longest time.Duration
}

func (s *Stalls) Read(b []byte) (int, error) {
	began := time.Now()
	n, err := s.Reader.Read(b)
	s.Longest = max(s.Longest, time.Since(began))
	return n, err
}

type connectionKey struct{}

// Serve answers on all addresses until it is told to stop by a signal. It prints "ready" once it listens.
func Serve(addresses []string, files string) error {
	var connections atomic.Int64
	s := &http.Server{
		Handler:           Handler(files),
		ReadHeaderTimeout: time.Minute,
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connectionKey{}, connections.Add(1))
		},
	}
	failed := make(chan error, len(addresses))
	for _, a := range addresses {
		ln, err := net.Listen("tcp", a)
		if err != nil {
			return err
		}
		go func() { failed <- s.Serve(ln) }()
	}
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err := <-failed:
		return err
	case <-stop:
		return s.Close()
	}
}

// Handler returns the server's routes; /f/ serves the given directory.
func Handler(files string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello world\n") })
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	mux.Handle("/f/", http.StripPrefix("/f/", http.FileServer(http.Dir(files))))
	mux.HandleFunc("/bytes/{n}", sendBytes)
	mux.HandleFunc("/digest", digest)
	mux.HandleFunc("/discard", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/request", dump)
	mux.HandleFunc("/status/{n}", status)
	mux.HandleFunc("/slow", slow)
	mux.HandleFunc("/close", breakOff)
	mux.HandleFunc("/trailer", trailer)
	mux.HandleFunc("/early", early)
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/websocket", echoMessages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n, ok := r.Context().Value(connectionKey{}).(int64); ok {
			w.Header().Set("X-Backend-Connection", strconv.FormatInt(n, 10))
		}
		mux.ServeHTTP(w, r)
	})
}

func sendBytes(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(w, "not a size", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if !r.URL.Query().Has("chunked") {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	_, _ = io.Copy(w, Body("bytes", n))
}

func digest(w http.ResponseWriter, r *http.Request) {
	stall := &Stalls{Reader: r.Body}
	sum, n, err := Sum(stall)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if want := r.URL.Query().Get("sha256"); want != "" && want != sum {
		w.WriteHeader(http.StatusUnprocessableEntity)
	}
	d := Digest{Bytes: n, SHA256: sum, Chunked: r.ContentLength < 0, Expect: r.Header.Get("Expect") != ""}
	if r.URL.Query().Has("stall") {
		answer(w, Upload{d, stall.Longest})
		return
	}
	answer(w, d)
}

func echo(w http.ResponseWriter, r *http.Request) {
	// HTTP/1.1 servers may answer before the request has ended; net/http does only when told to.
	_ = http.NewResponseController(w).EnableFullDuplex()
	if r.ContentLength >= 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	_, _ = io.Copy(w, r.Body)
}

func dump(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	answer(w, Request{
		Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Header: r.Header,
		Length: r.ContentLength, Remote: r.RemoteAddr, Trailer: r.Trailer,
	})
}

func status(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 200 || n > 599 {
		http.Error(w, "not a status", http.StatusBadRequest)
		return
	}
	w.WriteHeader(n)
}

func slow(w http.ResponseWriter, r *http.Request) {
	wait := func(name string) {
		d, _ := time.ParseDuration(r.URL.Query().Get(name)) // absent: no wait
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
	}
	wait("header")
	_, _ = io.WriteString(w, "first half, ")
	_ = http.NewResponseController(w).Flush()
	wait("body")
	_, _ = io.WriteString(w, "second half\n")
}

func breakOff(w http.ResponseWriter, r *http.Request) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	if n, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64); err == nil {
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 2*n)
		_, _ = io.Copy(c, Body("bytes", n))
	}
}

func trailer(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Trailer", "X-Sum")
	_, _ = io.WriteString(w, "body with a trailer\n")
	_ = http.NewResponseController(w).Flush()
	w.Header().Set("X-Sum", strings.Repeat("5", 8))
}

func early(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	_, _ = io.WriteString(w, "hello world\n")
}

func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "echo" {
		http.Error(w, "upgrade to echo", http.StatusUpgradeRequired)
		return
	}
	c, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(c, buffered)
}

func echoMessages(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return // answered
	}
	defer func() { _ = c.CloseNow() }() // closed already in most cases
	c.SetReadLimit(64 << 20)
	for {
		kind, message, err := c.Read(r.Context())
		if err != nil || c.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil && !errors.Is(err, syscall.EPIPE) {
		fmt.Fprintln(os.Stderr, "answer:", err)
	}
}
