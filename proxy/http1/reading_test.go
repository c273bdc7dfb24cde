package http1

import (
	"fmt"
	"strings"
	"testing"
)

// A reading is everything that a receiver of bytes can learn from them, as text.
// Two deliveries of the same bytes must lead to the same reading.

// readRequests reads pipelined requests from a connection that delivers raw in
// pieces ending at the given offsets, and is then silent.
func readRequests(raw string, l *Limits, cuts ...int) string {
	var out strings.Builder
	var r Request
	var b Body
	head := 0 // where the current message begins in raw
	at := 0   // body bytes before this have been consumed
	inBody := false
	var payload []byte
	r.Reset(l)
	cuts = append(cuts, len(raw))
	all := []byte(raw)
	for _, end := range cuts {
		in := all[:end:end]
		for {
			if !inBody {
				done, err := r.Parse(in[head:])
				if err != nil {
					return out.String() + refusal(err)
				}
				if !done {
					break
				}
				describeRequest(&out, &r, in[head:])
				b.ResetRequest(&r)
				b.CollectTrailers()
				payload = payload[:0]
				inBody = true
				at = head + r.HeadBytes
			}
			for at < end && !b.Done() {
				n, data, err := b.Next(in[at:])
				if err != nil {
					return fmt.Sprintf("%s  data %q\n%s", out.String(), payload, refusal(err))
				}
				payload = append(payload, data...)
				at += n
			}
			if !b.Done() {
				break
			}
			fmt.Fprintf(&out, "  body %q trailers %q\n", payload, b.Trailers())
			if !r.KeepAlive {
				return out.String() + "close"
			}
			head, inBody = at, false
			r.Reset(l)
		}
	}
	switch {
	case inBody:
		return fmt.Sprintf("%s  data %q\nwait for body", out.String(), payload)
	case r.Started():
		return out.String() + "wait for head"
	}
	return out.String() + "idle"
}

func describeRequest(out *strings.Builder, r *Request, in []byte) {
	fmt.Fprintf(out, "%s %s form %d path %q HTTP/1.%d host %q name %q framing %d length %d keep %t expect %t upgrade %t %q trailers %t\n",
		r.Method.Of(in), r.Target.Of(in), r.Form, r.Path.Of(in), r.Minor, r.Host.Of(in), r.HostName.Of(in), r.Framing,
		r.ContentLength, r.KeepAlive, r.Expect100, r.Upgrade, r.UpgradeProtocol.Of(in), r.Trailers)
	describeFields(out, r.Fields, in)
	fmt.Fprintf(out, "  forwarded %q\n", AppendRequest(nil, r, in, &ForwardOptions{}))
}

func describeFields(out *strings.Builder, fields []Field, in []byte) {
	for _, f := range fields {
		fmt.Fprintf(out, "  %q: %q id %d hop %t\n", f.Name.Of(in), f.Value.Of(in), f.ID, f.Hop)
	}
}

func refusal(err *Error) string {
	return fmt.Sprintf("refused %d at %d: %v", err.Status, err.Offset, err)
}

// readResponse reads the responses to one request up to the final one and its body,
// from a backend that delivers raw in pieces and then closes.
func readResponse(raw string, method Method, upgrade bool, l *Limits, cuts ...int) string {
	var out strings.Builder
	var r Response
	var b Body
	head, at := 0, 0
	inBody := false
	var payload []byte
	r.ResetFor(l, method, upgrade)
	cuts = append(cuts, len(raw))
	all := []byte(raw)
	for _, end := range cuts {
		in := all[:end:end]
		for !inBody {
			done, err := r.Parse(in[head:])
			if err != nil {
				return out.String() + refusal(err)
			}
			if !done {
				break
			}
			fmt.Fprintf(&out, "HTTP/1.%d %d %q framing %d %d %d length %d keep %t upgrade %t\n", r.Minor, r.Status,
				r.Reason.Of(in[head:]), r.Framing, r.FramingFor(0), r.FramingFor(1), r.ContentLength, r.KeepAlive, r.Upgrade)
			describeFields(&out, r.Fields, in[head:])
			fmt.Fprintf(&out, "  forwarded %q\n", AppendResponse(nil, &r, in[head:], &AnswerOptions{Minor: 1, KeepAlive: true}))
			at = head + r.HeadBytes
			if r.Interim() {
				head = at
				r.ResetFor(l, method, upgrade)
				continue
			}
			b.ResetResponse(&r)
			b.CollectTrailers()
			inBody = true
		}
		for inBody && at < end && !b.Done() {
			n, data, err := b.Next(in[at:])
			if err != nil {
				return fmt.Sprintf("%s  data %q\n%s", out.String(), payload, refusal(err))
			}
			payload = append(payload, data...)
			at += n
		}
	}
	if !inBody {
		return out.String() + "wait for head"
	}
	if err := b.EOF(); err != nil {
		return fmt.Sprintf("%s  data %q\n%s", out.String(), payload, refusal(err))
	}
	return fmt.Sprintf("%s  body %q trailers %q rest %q", out.String(), payload, b.Trailers(), raw[at:])
}

// everyDelivery returns the reading of raw delivered whole, after checking that it
// is the same byte by byte and split in two at every offset.
func everyDelivery(t *testing.T, raw string, read func(cuts ...int) string) string {
	t.Helper()
	want := read()
	every := make([]int, len(raw))
	for i := range every {
		every[i] = i + 1
	}
	if got := read(every...); got != want {
		t.Fatalf("byte by byte:\n%s\nwhole:\n%s", got, want)
	}
	for i := range raw {
		if got := read(i); got != want {
			t.Fatalf("split at %d:\n%s\nwhole:\n%s", i, got, want)
		}
	}
	return want
}

func requestReading(t *testing.T, raw string, l *Limits) string {
	t.Helper()
	return everyDelivery(t, raw, func(cuts ...int) string { return readRequests(raw, l, cuts...) })
}
