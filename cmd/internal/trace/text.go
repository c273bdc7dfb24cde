package trace

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"
)

// A line of more than foldEvents events is printed without its middle, unless all of it
// is asked for: bodies repeat themselves.
const (
	foldEvents = 100
	foldHead   = 60
	foldTail   = 30
)

// Print writes l for people. all: however long it is.
func Print(w io.Writer, l *Line, all bool) error {
	var b strings.Builder
	b.WriteString(l.Title())
	b.WriteByte('\n')
	b.WriteString("    at µs     +µs\n")
	var before time.Duration
	for i := range l.Events {
		if n := len(l.Events); !all && n > foldEvents && i >= foldHead && i < n-foldTail {
			if i == foldHead {
				fmt.Fprintf(&b, "                  ... %d events more: --all shows them\n", n-foldHead-foldTail)
			}
			continue
		}
		e := &l.Events[i]
		fmt.Fprintf(&b, "%9.1f %7.1f  %-8s %s\n", micro(e.At), micro(e.At-before), e.Side, l.Describe(e))
		before = e.At
	}
	if l.LeftOut > 0 {
		fmt.Fprintf(&b, "                  %d events found no room in the time line\n", l.LeftOut)
	}
	fmt.Fprintf(&b, "  copied: %s\n", l.copied())
	for _, s := range l.levels() {
		fmt.Fprintf(&b, "  %s\n", s)
	}
	b.WriteByte('\n')
	_, err := io.WriteString(w, b.String())
	return err
}

func micro(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// Title says what the request was, and what became of it.
func (l *Line) Title() string {
	var b strings.Builder
	what := printable(strings.TrimSpace(l.Method + " " + l.Target))
	fmt.Fprintf(&b, "%s  ", cmp.Or(what, "(no request line)"))
	switch {
	case l.Status != 0:
		fmt.Fprintf(&b, "%d", l.Status)
	default:
		b.WriteString("no response")
	}
	if l.Unfinished {
		b.WriteString(", not finished")
	}
	fmt.Fprintf(&b, "  in %v\n%s -> %s", l.Took.Round(100*time.Nanosecond), l.Client, l.Listener)
	for _, s := range l.Servers {
		fmt.Fprintf(&b, " -> %s", s)
	}
	if l.Upstream != "" {
		fmt.Fprintf(&b, " (%s)", l.Upstream)
	}
	fmt.Fprintf(&b, ", worker %d, %s", l.Worker, l.Start.Local().Format("15:04:05.000000"))
	return b.String()
}

// printable is s without what a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}

// Describe says in a few words what e is.
func (l *Line) Describe(e *Event) string {
	v := &e.Values
	switch e.Kind {
	case FrameReceived:
		what := plural(v[frameFrames], "frame") + " received"
		if v[frameBytes] > 0 {
			what += fmt.Sprintf(", %d bytes", v[frameBytes])
		}
		what += ": " + flagText(v[frameFlags]) + "; " + l.Interfaces[v[frameInterface]]
		if v[frameFrom] > 0 {
			return what + fmt.Sprintf(", handed over by worker %d", v[frameFrom]-1)
		}
		what += fmt.Sprintf(" queue %d, ", v[frameQueue])
		if v[frameSlot] > 0 {
			what += fmt.Sprintf("RX ring slot %d", v[frameSlot]-1)
		} else {
			what += "backlog"
		}
		if v[frameBatch] > 1 {
			what += fmt.Sprintf(", %d of a batch of %d", v[framePosition], v[frameBatch])
		}
		if v[frameWaiting] > 0 {
			what += fmt.Sprintf(", %d behind it", v[frameWaiting])
		}
		return what
	case SYNQueue:
		return "waits in the SYN queue: SYN-ACK sent"
	case AcceptQueue:
		return "waits in the accept queue: handshake done"
	case Accepted:
		return "accepted"
	case ReceiveBuffer:
		return "first byte in the receive buffer"
	case Ready:
		return "on the ready list"
	case Taken:
		return "taken off the ready list" + among(v[takenEvents])
	case Runs:
		return "the worker turns to it"
	case Read:
		text := fmt.Sprintf("read %d bytes from the receive buffer", v[moveBytes])
		if v[moveLevel] > 0 {
			text += fmt.Sprintf(", which holds %d more of %d", v[moveLevel], v[moveCapacity])
		}
		return text
	case Parsed:
		if v[moveBytes] == 0 {
			return "head of the request cannot be parsed"
		}
		return fmt.Sprintf("head of the request parsed, %d bytes", v[moveBytes])
	case Chosen:
		how := "new connection"
		if v[chosenPooled] != 0 {
			how = "connection of the pool"
		}
		text := "server " + l.Servers[v[chosenServer]] + ", " + how
		if v[chosenAttempt] > 1 {
			text += fmt.Sprintf(", attempt %d", v[chosenAttempt])
		}
		return text
	case Built:
		return fmt.Sprintf("%d bytes put together for the %s", v[moveBytes], e.Side)
	case Connecting:
		return "connection begun"
	case Connected:
		return "connection established"
	case Written:
		text := fmt.Sprintf("wrote %d bytes to the send buffer: %d of %d", v[moveBytes], v[moveLevel], v[moveCapacity])
		if v[moveLeft] > 0 {
			text += fmt.Sprintf("; full, %d bytes wait", v[moveLeft])
		}
		return text
	case FrameSent:
		text := plural(v[sentFrames], "frame") + " on the TX ring"
		if v[sentBytes] > 0 {
			text += fmt.Sprintf(", %d bytes", v[sentBytes])
		}
		return text + ": " + flagText(v[sentFlags]) + "; " + l.Interfaces[v[sentInterface]]
	case Kick:
		text := fmt.Sprintf("kick of %s for %s", l.Interfaces[v[kickInterface]], plural(v[kickFrames], "frame"))
		if v[kickAll] != v[kickFrames] {
			text += fmt.Sprintf(" of %d", v[kickAll])
		}
		if v[kickSender] != 0 {
			return text + ": left to the sender"
		}
		text += fmt.Sprintf(": %s, %.1f µs", plural(v[kickCalls], "call"), micro(e.Took))
		if v[kickLeft] > 0 {
			text += fmt.Sprintf(", %d not taken", v[kickLeft])
		}
		return text
	case Completed:
		return fmt.Sprintf("%s sent, back from the completion ring of %s", plural(v[1], "frame"), l.Interfaces[v[0]])
	case Interim:
		return fmt.Sprintf("interim response %d", v[statusStatus])
	case Response:
		return fmt.Sprintf("head of the response parsed: %d, %d bytes", v[statusStatus], v[statusBytes])
	case Answered:
		return fmt.Sprintf("answered by ringroad itself: %d, %d bytes", v[statusStatus], v[statusBytes])
	case Failed:
		text := "failed: " + printable(l.Errors[v[failedError]])
		if v[failedAgain] != 0 {
			text += "; tried again"
		}
		return text
	case Released:
		if v[releasedPooled] != 0 {
			return "connection back in the pool"
		}
		return "connection closed"
	case Tunnel:
		return "a tunnel from now on"
	case KeptAlive:
		return "response written; the connection stays"
	case Closed:
		return "response written; the connection is closed"
	case Aborted:
		return "cut off"
	case LastACK:
		return "all acknowledged"
	}
	return kinds[e.Kind].name
}

func plural(n uint32, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func among(n uint32) string {
	if n > 1 {
		return " with " + plural(n-1, "other")
	}
	return ""
}

// copied sums up the copies.
func (l *Line) copied() string {
	var parts []string
	for i, name := range [placeCount]string{"frames to packets", "receive buffers to heap", "in the heap", "heap to send buffers", "send buffers to frames"} {
		parts = append(parts, fmt.Sprintf("%s %d", name, l.Copies[i]))
	}
	return strings.Join(parts, ", ") + " bytes"
}

// level is the fullest that a buffer was seen.
type level struct {
	side     Side
	buffer   string // receive or send
	high     uint32
	capacity uint32
	full     int // writes that did not fit
}

func (v level) String() string {
	text := fmt.Sprintf("%s %s buffer: %d of %d bytes at most", v.side, v.buffer, v.high, v.capacity)
	if v.full > 0 {
		text += fmt.Sprintf(", full %d times", v.full)
	}
	return text
}

// levels are the buffers that were written to or read from, in the order of a request.
func (l *Line) levels() (list []level) {
	for _, v := range []level{
		{side: Client, buffer: "receive"}, {side: Backend, buffer: "send"}, {side: Backend, buffer: "receive"}, {side: Client, buffer: "send"},
	} {
		seen := false
		for i := range l.Events {
			e := &l.Events[i]
			if e.Side != v.side || e.Kind != Read && e.Kind != Written || (e.Kind == Read) != (v.buffer == "receive") {
				continue
			}
			n := e.Values[moveLevel]
			if e.Kind == Read {
				n += e.Values[moveBytes] // what it held before
			} else if e.Values[moveLeft] > 0 {
				v.full++
			}
			v.high, v.capacity, seen = max(v.high, n), max(v.capacity, e.Values[moveCapacity]), true
		}
		if seen {
			list = append(list, v)
		}
	}
	return list
}
