package trace

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxMessage bounds a line of the stream: a time line with its greatest number of
// events is below 2 MB.
const maxMessage = 8 << 20

// Copy hands what a session writes to each, in the order in which the requests ended: a
// [Line] in JSON, valid during the call. began is told when the workers follow requests. An end in the middle is
// io.ErrUnexpectedEOF.
func Copy(from io.Reader, began func(Began), each func(json.RawMessage) error) (sum Summary, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxMessage)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			return sum, fmt.Errorf("what ringroad sent is no trace: %w", err)
		}
		switch {
		case m.Began != nil:
			began(*m.Began)
		case m.Line != nil:
			if err := each(m.Line); err != nil {
				return sum, err
			}
		case m.Summary != nil:
			return *m.Summary, nil
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return sum, err
	}
	return sum, io.ErrUnexpectedEOF
}
