package proxy

import (
	"bytes"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"ringroad/proxy/config"
	"ringroad/proxy/http1"
)

const (
	logBufferBytes = 64 << 10
	logBuffers     = 8 // between the loop and the writer; more lines than that are lost
	// logDelay is how long a line may wait for others to be written with.
	logDelay = 100 * time.Millisecond
	// logStop is how long a stop waits for the writer to catch up.
	logStop = 2 * time.Second
)

// accessLog collects lines on the loop and writes them in a goroutine of its own.
// The loop never waits for it: when the writer has fallen behind by all buffers,
// lines are lost and counted.
type accessLog struct {
	out     io.Writer
	log     *slog.Logger
	current []byte        // filled by the loop; nil: none at hand
	flushAt time.Duration // loop time at which current is handed over; 0: it is empty
	full    chan []byte
	free    chan []byte
	done    chan struct{}   // closed when this one and those before are written
	before  <-chan struct{} // done of the one before; nil: there was none
	failed  atomic.Bool     // the last write failed; writer only, but for tests
	lost    atomic.Uint64   // lines that could not be written, and that nobody has counted yet

	json   bool   // lines are objects; otherwise nginx's combined format
	second int64  // that stamp stands for
	stamp  []byte // time_local; of a JSON line, the time up to the seconds
	zone   []byte // of a JSON line, the offset of the time
}

// newAccessLog starts the writer. It writes whole lines, one Write at a time.
func newAccessLog(out io.Writer, log *slog.Logger, before <-chan struct{}) *accessLog {
	a := &accessLog{
		out: out, log: log, before: before,
		full: make(chan []byte, logBuffers),
		free: make(chan []byte, logBuffers),
		done: make(chan struct{}),
	}
	for range logBuffers {
		a.free <- nil // allocated when first used
	}
	go a.write()
	return a
}

// write is the writer's goroutine.
func (a *accessLog) write() {
	defer close(a.done)
	torn := false // the file ends in the middle of a line
	var lost uint64
	for b := range a.full {
		var err error
		if torn {
			if _, err = a.out.Write([]byte{'\n'}); err == nil {
				torn = false
			}
		}
		n := 0
		if err == nil {
			n, err = a.out.Write(b)
			torn = err != nil && n > 0 && b[n-1] != '\n'
		}
		switch failed := a.failed.Load(); {
		case err != nil && !failed:
			a.log.Error("write access log: lines are lost until it works again", "error", err)
		case err == nil && failed:
			a.log.Info("the access log can be written again", "lines_lost", lost)
			lost = 0
		}
		if err != nil {
			lines := uint64(bytes.Count(b[n:], []byte{'\n'}))
			lost += lines
			a.lost.Add(lines)
		}
		a.failed.Store(err != nil)
		a.free <- b[:0]
	}
	if a.before != nil {
		<-a.before
	}
}

// setFormat makes lines what the configuration says.
func (a *accessLog) setFormat(f config.LogFormat) {
	a.json = f == config.JSON
	a.stamp = nil // it is another one in each format
}

// SetAccessLog lets the lines from now on go to out, or to nobody where out is nil.
// Lines that were logged before still go to the old writer, in a goroutine; the
// channel that is returned is closed when it is not used any more. It must be called
// on the loop.
func (w *Worker) SetAccessLog(out io.Writer) (released <-chan struct{}) {
	if w.access != nil {
		w.access.end()
		w.written = w.access.done
		w.access = nil
	}
	released = w.written
	if released == nil {
		none := make(chan struct{})
		close(none)
		released = none
	}
	if out != nil {
		w.access = newAccessLog(out, w.log, w.written)
		w.access.setFormat(w.config.Log.Format)
	}
	return released
}

// closeAccessLog writes what is left, waiting a moment for the writer.
func (w *Worker) closeAccessLog() {
	written := w.SetAccessLog(nil)
	t := time.NewTimer(logStop)
	defer t.Stop()
	select {
	case <-written:
	case <-t.C:
		w.log.Error("write access log: the writer does not keep up, the last lines may be lost")
	}
}

// line appends the line of an exchange. now is the loop time, wall the wall time of
// the turn. It reports false when the line is lost.
func (a *accessLog) line(x *exchange, now time.Duration, wall time.Time) bool {
	if a.current == nil {
		select {
		case b := <-a.free:
			if b == nil {
				b = make([]byte, 0, logBufferBytes)
			}
			a.current = b
		default:
			return false
		}
	}
	if second := wall.Unix(); second != a.second || a.stamp == nil {
		a.second = second
		if a.json {
			a.stamp = wall.AppendFormat(a.stamp[:0], "2006-01-02T15:04:05")
			a.zone = wall.AppendFormat(a.zone[:0], "Z07:00")
		} else {
			a.stamp = wall.AppendFormat(a.stamp[:0], "02/Jan/2006:15:04:05 -0700")
		}
	}
	b := a.current
	if a.json {
		b = a.appendJSON(b, x, now, wall)
	} else {
		b = a.appendCombined(b, x)
	}
	a.current = b
	if a.flushAt == 0 {
		a.flushAt = now + logDelay
	}
	if len(b) >= logBufferBytes*7/8 {
		a.flush()
	}
	return true
}

// appendCombined appends a line in nginx's combined format:
//
//	remote_addr - - [time_local] "request" status body_bytes_sent "referer" "user_agent"
func (a *accessLog) appendCombined(b []byte, x *exchange) []byte {
	b = append(b, x.session.clientAddr()...)
	b = append(b, " - - ["...) // no remote_user: the proxy authenticates nobody
	b = append(b, a.stamp...)
	b = append(b, `] "`...)
	b = appendEscaped(b, x.requestLine())
	b = append(b, `" `...)
	b = appendDecimal(b, uint64(x.status))
	b = append(b, ' ')
	b = appendDecimal(b, x.bodySent())
	b = append(b, ` "`...)
	b = appendField(b, x, http1.FieldReferer)
	b = append(b, `" "`...)
	b = appendField(b, x, http1.FieldUserAgent)
	return append(b, '"', '\n')
}

// flush hands the collected lines to the writer.
func (a *accessLog) flush() {
	a.flushAt = 0
	if len(a.current) == 0 {
		return
	}
	a.full <- a.current // never blocks: there are as many places as buffers
	a.current = nil
}

// end hands over what is left. Nothing may be logged any more.
func (a *accessLog) end() {
	a.flush()
	close(a.full)
}

// appendField appends a field of the request, "-" when there is none.
func appendField(b []byte, x *exchange, id http1.FieldID) []byte {
	if x.hasHead {
		if v, ok := http1.Find(x.req.Fields, x.head(), id); ok && len(v) > 0 {
			return appendEscaped(b, v)
		}
	}
	return append(b, '-')
}

// appendEscaped appends v so that it can neither end the quoted string nor the
// line, nor send control codes to a terminal: as nginx, \xHH for the quote, the
// backslash, control characters and what is not ASCII.
func appendEscaped(b, v []byte) []byte {
	const hex = "0123456789ABCDEF"
	from := 0
	for i, c := range v {
		if c >= 0x20 && c < 0x7f && c != '"' && c != '\\' {
			continue
		}
		b = append(b, v[from:i]...)
		b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		from = i + 1
	}
	return append(b, v[from:]...)
}

func appendDecimal(b []byte, n uint64) []byte {
	var d [20]byte
	i := len(d)
	for {
		i--
		d[i] = byte('0' + n%10)
		if n /= 10; n == 0 {
			return append(b, d[i:]...)
		}
	}
}
