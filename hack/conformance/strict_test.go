package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// field is one field line.
type field struct{ name, value string }

// message is a request or a response as the strict parser read it.
type message struct {
	method, target string // of a request
	status         int    // of a response
	fields         []field
	body           string
	trailers       []field
	size           int // bytes of the message
}

// get returns the value of the only field with the name, "" without one.
func (m *message) get(name string) string {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			return f.value
		}
	}
	return ""
}

func (m *message) count(name string) (n int) {
	for _, f := range m.fields {
		if strings.EqualFold(f.name, name) {
			n++
		}
	}
	return n
}

// errIncomplete tells that bytes are missing and those at hand are conformant.
var errIncomplete = errors.New("incomplete")

// The grammar, as RFC 9110 5 and RFC 9112 have it, without any of the leniency that
// a recipient may show. A target may hold all visible characters but "#".
var (
	tokenText   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
	targetText  = regexp.MustCompile(`^(/[!"$-~]*|\*)$`)
	statusText  = regexp.MustCompile(`^[1-5][0-9][0-9]$`)
	hostValue   = regexp.MustCompile(`^([0-9A-Za-z._~!$&'()*+;=%-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?$`)
	lengthValue = regexp.MustCompile(`^(0|[1-9][0-9]{0,18})$`)
	sizeLine    = regexp.MustCompile(`^(0|[1-9a-f][0-9a-f]{0,15})$`)
)

// isText tells whether s may be a field value or a reason phrase: no control
// characters but HTAB, no whitespace at its ends.
func isText(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' && s[i] != '\t' || s[i] == 0x7f {
			return false
		}
	}
	return strings.Trim(s, " \t") == s
}

// line cuts the first line, which must end with CRLF and hold no other CR or LF.
func line(b []byte) (string, []byte, error) {
	i := bytes.IndexAny(b, "\r\n")
	switch {
	case i < 0 || i == len(b)-1 && b[i] == '\r':
		return "", nil, errIncomplete
	case b[i] == '\n' || b[i+1] != '\n':
		return "", nil, fmt.Errorf("bare CR or LF behind %q", b[:i])
	}
	return string(b[:i]), b[i+2:], nil
}

// section reads field lines up to the empty line.
func section(b []byte) (fields []field, rest []byte, err error) {
	for {
		var l string
		if l, b, err = line(b); err != nil {
			return nil, nil, err
		}
		if l == "" {
			return fields, b, nil
		}
		name, value, ok := strings.Cut(l, ": ")
		if !ok || !tokenText.MatchString(name) || !isText(value) {
			return nil, nil, fmt.Errorf("field line %q", l)
		}
		fields = append(fields, field{name, value})
	}
}

// only lists how often a field may stand in a message. Those with 0 are for one
// connection and must not be forwarded. None of them may be a trailer.
var only = map[string]int{
	"host": 1, "content-length": 1, "transfer-encoding": 1, "connection": 1, "expect": 1, "te": 1,
	"x-forwarded-for": 1, "x-forwarded-proto": 1, "x-forwarded-host": 1, "date": 1,
	"keep-alive": 0, "proxy-connection": 0, "upgrade": 0, "proxy-authorization": 0, "proxy-authenticate": 0, "http2-settings": 0,
}

// readBody checks the fields that decide where the body ends, and reads it. bodyless
// tells that there is none, whatever the fields say.
func (m *message) readBody(b []byte, bodyless bool) (rest []byte, err error) {
	for name, limit := range only {
		if m.count(name) > limit {
			return nil, fmt.Errorf("%d fields %s", m.count(name), name)
		}
	}
	coding, length := m.get("Transfer-Encoding"), m.get("Content-Length")
	hasLength := m.count("Content-Length") > 0
	switch {
	case m.count("Transfer-Encoding") > 0 && hasLength:
		return nil, errors.New("two framings")
	case m.count("Transfer-Encoding") > 0 && coding != "chunked":
		return nil, fmt.Errorf("coding %q", coding)
	case hasLength && !lengthValue.MatchString(length):
		return nil, fmt.Errorf("length %q", length)
	case m.count("Trailer") > 0 && coding == "":
		return nil, errors.New("Trailer without chunks")
	case bodyless:
		return b, nil
	case coding != "":
		return m.readChunks(b)
	}
	n, _ := strconv.Atoi(length)
	if len(b) < n {
		return nil, errIncomplete
	}
	m.body = string(b[:n])
	return b[n:], nil
}

// readChunks reads chunks and the trailer section.
func (m *message) readChunks(b []byte) (rest []byte, err error) {
	var body strings.Builder
	for {
		var l string
		if l, b, err = line(b); err != nil {
			return nil, err
		}
		if !sizeLine.MatchString(l) {
			return nil, fmt.Errorf("chunk size %q", l)
		}
		n, err := strconv.ParseUint(l, 16, 62)
		if err != nil {
			return nil, fmt.Errorf("chunk size %q", l)
		}
		if n == 0 {
			break
		}
		if uint64(len(b)) < n+2 {
			return nil, errIncomplete
		}
		body.Write(b[:n])
		if string(b[n:n+2]) != "\r\n" {
			return nil, fmt.Errorf("%q behind a chunk", b[n:n+2])
		}
		b = b[n+2:]
	}
	m.body = body.String()
	if m.trailers, b, err = section(b); err != nil {
		return nil, err
	}
	for _, t := range m.trailers {
		if _, bad := only[strings.ToLower(t.name)]; bad || strings.EqualFold(t.name, "Trailer") {
			return nil, fmt.Errorf("trailer %s", t.name)
		}
	}
	return b, nil
}

// parseRequest reads one request as ringroad must forward it. head tells that the
// head, at least, is complete.
func parseRequest(b []byte) (m *message, head bool, err error) {
	first, rest, err := line(b)
	if err != nil {
		return nil, false, err
	}
	m = &message{}
	parts := strings.Split(first, " ")
	if len(parts) != 3 || !tokenText.MatchString(parts[0]) || !targetText.MatchString(parts[1]) || parts[2] != "HTTP/1.1" {
		return nil, false, fmt.Errorf("request line %q", first)
	}
	m.method, m.target = parts[0], parts[1]
	if m.fields, rest, err = section(rest); err != nil {
		return nil, false, err
	}
	if err := m.checkRequest(); err != nil {
		return nil, false, err
	}
	if rest, err = m.readBody(rest, false); err != nil {
		return m, true, err
	}
	m.size = len(b) - len(rest)
	return m, true, nil
}

// checkRequest checks what concerns requests only.
func (m *message) checkRequest() error {
	if m.target == "*" && m.method != "OPTIONS" {
		return errors.New("asterisk-form without OPTIONS")
	}
	// An empty Host is what a request without an authority has (RFC 9112 3.2).
	if len(m.fields) == 0 || m.fields[0].name != "Host" || m.fields[0].value != "" && !hostValue.MatchString(m.fields[0].value) {
		return fmt.Errorf("no Host in front, or an invalid one: %q", m.fields)
	}
	hasBody := m.count("Transfer-Encoding") > 0 || m.count("Content-Length") > 0 && m.get("Content-Length") != "0"
	if m.count("Expect") > 0 && (!strings.EqualFold(m.get("Expect"), "100-continue") || !hasBody) {
		return fmt.Errorf("Expect: %q", m.get("Expect"))
	}
	te := m.count("TE") > 0
	if te && m.get("TE") != "trailers" || !slices.Contains([]string{"", "close", "TE"}, m.get("Connection")) ||
		te != (m.get("Connection") == "TE") || m.count("Connection") > 0 && m.get("Connection") == "" {
		return fmt.Errorf("TE: %q, Connection: %q", m.get("TE"), m.get("Connection"))
	}
	return nil
}

// methodField is the field in which the witness names the method that it answers:
// the framing of a response depends on it.
const methodField = "X-Method"

// parseResponse reads one response as ringroad must send it. eof tells that nothing
// follows b.
func parseResponse(b []byte, eof bool) (m *message, err error) {
	first, rest, err := line(b)
	if err != nil {
		return nil, err
	}
	parts := strings.SplitN(first, " ", 3)
	if len(parts) != 3 || parts[0] != "HTTP/1.1" || !statusText.MatchString(parts[1]) || !isText(parts[2]) {
		return nil, fmt.Errorf("status line %q", first)
	}
	m = &message{}
	m.status, _ = strconv.Atoi(parts[1])
	if m.fields, rest, err = section(rest); err != nil {
		return nil, err
	}
	if !slices.Contains([]string{"", "close", "keep-alive"}, m.get("Connection")) || m.count("TE") > 0 {
		return nil, fmt.Errorf("Connection: %q, TE: %q", m.get("Connection"), m.get("TE"))
	}
	bodyless := m.get(methodField) == "HEAD" || m.status < 200 || m.status == 204 || m.status == 304
	// An own error to HEAD names no method, but it is the last answer.
	bodyless = bodyless || m.get(methodField) == "" && m.status >= 400 && m.get("Connection") == "close" && len(rest) == 0 && eof
	framed := m.count("Transfer-Encoding")+m.count("Content-Length") > 0
	if (m.status < 200 || m.status == 204) && framed {
		return nil, errors.New("framing without a body")
	}
	if !bodyless && !framed {
		if !eof {
			return nil, errIncomplete
		}
		m.body, rest = string(rest), nil
	} else if rest, err = m.readBody(rest, bodyless); err != nil {
		return nil, err
	}
	m.size = len(b) - len(rest)
	return m, nil
}
