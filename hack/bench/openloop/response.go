package openloop

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// response reads one response with a Content-Length as it comes. The zero value is ready.
type response struct {
	head   []byte // until it is complete
	body   int64  // bytes that are still to come; valid once head is complete
	inBody bool
	closes bool // Connection: close
}

const maxHeadBytes = 16 << 10

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\ncontent-length:")
	closeField    = []byte("\r\nconnection: close\r\n")
)

// take reads on. done is true when the response is complete.
func (r *response) take(b []byte) (done bool, err error) {
	if !r.inBody {
		end := bytes.Index(b, headEnd)
		if len(r.head) > 0 || end < 0 { // in pieces
			r.head = append(r.head, b...)
			if end = bytes.Index(r.head, headEnd); end < 0 {
				if len(r.head) > maxHeadBytes {
					return false, errors.New("a response without an end of its head")
				}
				return false, nil
			}
			b = r.head
		}
		if err := r.parse(b[:end+len(headEnd)]); err != nil {
			return false, err
		}
		b = b[end+len(headEnd):]
	}
	r.body -= int64(len(b))
	if r.body < 0 {
		return false, errors.New("more bytes than the response announced")
	}
	return r.body == 0, nil
}

func (r *response) parse(head []byte) error {
	if len(head) < len("HTTP/1.1 200") || (head[9] != '2' && head[9] != '3') {
		line, _, _ := bytes.Cut(head, []byte("\r\n"))
		return fmt.Errorf("the answer %q", line)
	}
	lower := bytes.ToLower(head)
	r.closes = bytes.Contains(lower, closeField)
	i := bytes.Index(lower, contentLength)
	if i < 0 {
		return errors.New("an answer without Content-Length")
	}
	value, _, _ := bytes.Cut(lower[i+len(contentLength):], []byte("\r\n"))
	n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
	if err != nil {
		return fmt.Errorf("the content length %q", value)
	}
	r.body, r.inBody = n, true
	return nil
}
