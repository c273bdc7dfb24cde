package proxy

import (
	"time"
	"unicode/utf8"

	"ringroad/proxy/http1"
)

// times are the loop times at which an exchange came further; 0: it did not. All
// that happens in one turn of the loop has one time.
type times struct {
	begun     time.Duration // the first byte of the request came
	head      time.Duration // its head was complete
	attempt   time.Duration // the last connection to a backend was asked for
	connected time.Duration // and there
	sent      time.Duration // all of the request was written to it
	heard     time.Duration // the first byte of a response came
}

// appendJSON appends a line with one object. Its keys are always the same; null
// stands for what the exchange did not come to:
//
//	time                 end of the exchange, RFC 3339
//	client, listener     addresses with ports; listener as configured
//	method, target, version, host, referer, user_agent
//	                     of the request as it came
//	status               0: none
//	request_bytes        head and payload; request_body_bytes the payload alone
//	response_bytes       written to the client; response_body_bytes without heads
//	upstream, server     where the request went, the last attempt
//	request_ms           from the first byte of the request to the end of its head
//	queue_ms             from there to the last attempt to reach a backend
//	connect_ms           until that was connected, 0 on a pooled connection
//	first_byte_ms        from there to the first byte of a response
//	total_ms             from the first byte of the request until now
//	reused               the backend connection had served before
//	retries              attempts before the last
//	termination          complete, or who ended it: client, backend, internal
//	phase, error         what was going on then, and what went wrong
func (a *accessLog) appendJSON(b []byte, x *exchange, now time.Duration, wall time.Time) []byte {
	s := x.session
	b = append(b, `{"time":"`...)
	b = append(b, a.stamp...)
	b = appendFraction(b, uint64(wall.Nanosecond()/1000), 6)
	b = append(b, a.zone...)
	b = append(b, `","client":"`...)
	end := s.clientEnd()
	b = end.AppendTo(b)
	b = append(b, `","listener":"`...)
	b = s.listener.config.Address.AppendTo(b)
	b = append(b, '"')

	b = append(b, `,"method":`...)
	if x.hasHead {
		head := x.head()
		b = appendJSONString(b, x.req.Method.Of(head))
		b = append(b, `,"target":`...)
		b = appendJSONString(b, x.req.Target.Of(head))
		b = append(b, `,"version":"HTTP/1.`...)
		b = append(b, '0'+x.req.Minor, '"')
		b = append(b, `,"host":`...)
		b = appendJSONValue(b, x.req.Host.Of(head))
		b = append(b, `,"referer":`...)
		b = appendJSONField(b, x, http1.FieldReferer)
		b = append(b, `,"user_agent":`...)
		b = appendJSONField(b, x, http1.FieldUserAgent)
	} else {
		b = append(b, `null,"target":null,"version":null,"host":null,"referer":null,"user_agent":null`...)
	}

	b = append(b, `,"status":`...)
	b = appendDecimal(b, uint64(x.status))
	b = append(b, `,"request_bytes":`...)
	b = appendDecimal(b, x.requestBytes())
	b = append(b, `,"request_body_bytes":`...)
	body := uint64(0)
	if x.hasHead {
		body = uint64(x.request.body.Received())
	}
	b = appendDecimal(b, body)
	b = append(b, `,"response_bytes":`...)
	b = appendDecimal(b, x.written)
	b = append(b, `,"response_body_bytes":`...)
	b = appendDecimal(b, x.bodySent())

	b = append(b, `,"upstream":`...)
	if x.server != nil {
		b = append(b, '"')
		b = append(b, x.server.Group.Name...) // letters, digits, - and _
		b = append(b, `","server":"`...)
		b = x.server.Addr.AppendTo(b)
		b = append(b, '"')
	} else {
		b = append(b, `null,"server":null`...)
	}

	t := &x.times
	b = append(b, `,"request_ms":`...)
	b = appendMillis(b, t.begun, t.head)
	b = append(b, `,"queue_ms":`...)
	b = appendMillis(b, t.head, t.attempt)
	b = append(b, `,"connect_ms":`...)
	b = appendMillis(b, t.attempt, t.connected)
	b = append(b, `,"first_byte_ms":`...)
	b = appendMillis(b, t.connected, t.heard)
	b = append(b, `,"total_ms":`...)
	b = appendMillis(b, t.begun, now)
	if x.reused {
		b = append(b, `,"reused":true,"retries":`...)
	} else {
		b = append(b, `,"reused":false,"retries":`...)
	}
	b = appendDecimal(b, uint64(max(x.attempts-1, 0)))

	e := &x.failure
	if e.Err == nil {
		return append(b, `,"termination":"complete","phase":null,"error":null}`+"\n"...)
	}
	b = append(b, `,"termination":"`...)
	b = append(b, e.Source.String()...)
	b = append(b, `","phase":"`...)
	b = append(b, e.Phase.String()...)
	b = append(b, `","error":`...)
	b = appendJSONString(b, []byte(e.Err.Error()))
	return append(b, '}', '\n')
}

// appendMillis appends the milliseconds between two times, down to microseconds.
func appendMillis(b []byte, from, to time.Duration) []byte {
	if from == 0 || to == 0 {
		return append(b, "null"...)
	}
	us := uint64(max(to-from, 0) / time.Microsecond)
	return appendFraction(appendDecimal(b, us/1000), us%1000, 3)
}

// appendFraction appends a point and n with the given number of digits.
func appendFraction(b []byte, n uint64, digits int) []byte {
	b = append(b, '.')
	at := len(b)
	for range digits {
		b = append(b, '0')
	}
	for i := len(b) - 1; i >= at; i-- {
		b[i] += byte(n % 10)
		n /= 10
	}
	return b
}

// appendJSONField appends a field of the request, null when there is none.
func appendJSONField(b []byte, x *exchange, id http1.FieldID) []byte {
	if v, ok := http1.Find(x.req.Fields, x.head(), id); ok {
		return appendJSONString(b, v)
	}
	return append(b, "null"...)
}

// appendJSONValue appends v, null when it is empty.
func appendJSONValue(b, v []byte) []byte {
	if len(v) == 0 {
		return append(b, "null"...)
	}
	return appendJSONString(b, v)
}

// appendJSONString appends v as a string of JSON (RFC 8259 7). UTF-8 stays as it is
// except for what terminals or line readers might act on: control characters, also
// those of U+0080 to U+009F, and the separators U+2028 and U+2029. A byte that is
// no UTF-8 becomes the \u escape of its value.
func appendJSONString(b, v []byte) []byte {
	b = append(b, '"')
	from := 0
	for i := 0; i < len(v); {
		c := rune(v[i])
		size := 1
		plain := c >= ' ' && c < 0x7f && c != '"' && c != '\\'
		if c >= utf8.RuneSelf {
			var r rune
			if r, size = utf8.DecodeRune(v[i:]); size > 1 {
				c = r
				plain = r >= 0xa0 && r != '\u2028' && r != '\u2029'
			}
		}
		if plain {
			i += size
			continue
		}
		b = append(b, v[from:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', byte(c))
		} else {
			const hex = "0123456789abcdef"
			b = append(b, '\\', 'u', hex[c>>12&15], hex[c>>8&15], hex[c>>4&15], hex[c&15])
		}
		i += size
		from = i
	}
	b = append(b, v[from:]...)
	return append(b, '"')
}
