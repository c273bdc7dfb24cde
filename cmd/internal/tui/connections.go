package tui

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"ringroad/cmd/internal/control"
	"ringroad/proxy"
	"ringroad/stack"
)

// cell is a column of the table of connections.
type cell struct {
	name  string
	width int // on the terminal; 0: only where text is not cut; -1: what is left
	right bool
	of    func(*proxy.Connection) string
}

// cells are the columns, as ss and top would name them.
var cells = []cell{
	{"W", 1, false, func(c *proxy.Connection) string { return strconv.Itoa(c.Worker) }},
	{"CLIENT", 21, false, func(c *proxy.Connection) string { return address(c.Client) }},
	{"STATE", 7, false, func(c *proxy.Connection) string { return string(c.State) }},
	{"SINCE", 5, true, func(c *proxy.Connection) string { return took(c.InState) }},
	{"AGE", 0, true, func(c *proxy.Connection) string { return took(c.Age) }},
	{"RTT", 5, true, func(c *proxy.Connection) string { return roundTrip(&c.TCP) }},
	{"CWND", 0, true, func(c *proxy.Connection) string { return count(c.TCP.CongestionWindow) }},
	{"RECV", 5, true, func(c *proxy.Connection) string { return short(float64(c.TCP.Received)) }},
	{"SEND", 5, true, func(c *proxy.Connection) string { return short(float64(c.TCP.Sent)) }},
	{"RESENT", 6, true, func(c *proxy.Connection) string { return count(c.TCP.Retransmits) }},
	{"REQUEST", -1, false, request},
	{"BACKEND", 0, false, backend},
}

func address(a netip.AddrPort) string {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
}

func count(n uint64) string { return short(float64(n)) }

func request(c *proxy.Connection) string {
	if c.Request == nil {
		return "-"
	}
	return strings.TrimSpace(c.Request.Method + " " + c.Request.Path)
}

func backend(c *proxy.Connection) string {
	if c.Backend == nil {
		return "-"
	}
	return address(c.Backend.Server) + " " + pooled(c.Backend)
}

func pooled(b *proxy.BackendConnection) string {
	if b.Pooled {
		return "pooled"
	}
	return "new"
}

func roundTrip(i *stack.Info) string {
	if i.RTT == 0 {
		return "-"
	}
	return took(i.RTT)
}

// took is a time in at most five characters: 350us, 1.2ms, 15.0s, 12m, 30h.
func took(d time.Duration) string {
	units := []struct {
		name string
		size time.Duration
		end  time.Duration // from here on the next one is used
	}{
		{"us", time.Microsecond, time.Millisecond}, {"ms", time.Millisecond, time.Second}, {"s", time.Second, 2 * time.Minute},
		{"m", time.Minute, 2 * time.Hour}, {"h", time.Hour, 1000 * time.Hour},
	}
	d = max(d, 0)
	for _, u := range units {
		if d >= u.end {
			continue
		}
		n := float64(d) / float64(u.size)
		if n < 10 && u.size > time.Microsecond {
			return strconv.FormatFloat(n, 'f', 1, 64) + u.name
		}
		return strconv.Itoa(int(n)) + u.name
	}
	return strconv.Itoa(int(d.Hours()/24)) + "d"
}

// PrintConnections writes them as a table whose columns are as wide as they must be.
func PrintConnections(w io.Writer, found *control.Connections, order proxy.Order) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(text func(*cell) string) {
		list := make([]string, len(cells))
		for i := range cells {
			list[i] = text(&cells[i])
		}
		fmt.Fprintln(t, strings.Join(list, "\t"))
	}
	if len(found.Connections) > 0 {
		row(func(c *cell) string { return c.name })
	}
	for _, k := range found.Connections {
		row(func(c *cell) string { return c.of(k) })
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, strings.Join(append([]string{summary(found, order)}, unanswered(found)...), "\n"))
	return err
}

// summary says how many there are.
func summary(found *control.Connections, order proxy.Order) string {
	open, matching := 0, 0
	for _, w := range found.Workers {
		open += w.Open
		matching += w.Matching
	}
	text := fmt.Sprintf("%d of %d connections", len(found.Connections), matching)
	if matching < open {
		text += fmt.Sprintf(" that match, %d open", open)
	}
	return text + ", by " + string(order)
}

// unanswered names the workers whose connections are missing.
func unanswered(found *control.Connections) (lines []string) {
	for _, w := range found.Workers {
		if w.Error != "" {
			lines = append(lines, fmt.Sprintf("worker %d: %s", w.Worker, w.Error))
		}
	}
	return lines
}

// detailLines is how many lines details takes.
const detailLines = 8

// details are lines about one connection: TCP of both sides, and the request.
func details(c *proxy.Connection) []string {
	lines := []string{fmt.Sprintf("client   %s -> %s %s, open %s, request %d", address(c.Client), address(c.TCP.Local), c.TCP.State, took(c.Age), c.Requests)}
	lines = append(lines, sockets(&c.TCP)...)
	if b := c.Backend; b == nil {
		lines = append(lines, "backend  -", "", "")
	} else {
		lines = append(lines, fmt.Sprintf("backend  %s -> %s %s, %s, %s, request %d", address(b.TCP.Local), address(b.Server), b.TCP.State, b.Upstream, pooled(b), b.Requests))
		lines = append(lines, sockets(&b.TCP)...)
	}
	r := c.Request
	if r == nil {
		return append(lines, "request  -", "")
	}
	status := "no status yet"
	if r.Status != 0 {
		status = fmt.Sprintf("status %d", r.Status)
	}
	return append(lines, fmt.Sprintf("request  %s %s%s", r.Method, r.Host, r.Path),
		fmt.Sprintf("         %s, for %s, %s bytes in, %s out, %s held by the proxy", status, took(r.Age), count(r.RequestBytes), count(r.ResponseBytes), short(float64(c.Held))))
}

// sockets are two lines about TCP.
func sockets(i *stack.Info) []string {
	threshold, recovery := "-", ""
	if i.SlowStartThreshold != 0 {
		threshold = count(i.SlowStartThreshold)
	}
	if i.Recovery != "" {
		recovery = " (" + i.Recovery + ")"
	}
	of := func(n, room int) string { return short(float64(n)) + "/" + short(float64(room)) }
	return []string{
		fmt.Sprintf("         rtt %s, rto %s, cwnd %d, ssthresh %s, recv %s, send %s",
			roundTrip(i), took(i.RTO), i.CongestionWindow, threshold, of(i.Received, i.ReceiveRoom), of(i.Sent, i.SendRoom)),
		fmt.Sprintf("         resent %d%s, peer window %s, zero windows %d, in %s, out %s",
			i.Retransmits, recovery, count(i.PeerWindow), i.ZeroWindows, count(i.BytesRead), count(i.BytesWritten)),
	}
}
