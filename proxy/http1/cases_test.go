package http1

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// publicCase is one line of testdata/cases.
type publicCase struct {
	Suite    string     `json:"suite"`
	ID       string     `json:"id"`
	Title    string     `json:"title"`
	Expect   string     `json:"expect"`
	Status   string     `json:"status"`
	Level    string     `json:"level"`
	Tier     string     `json:"tier"`
	Reason   string     `json:"reason"`
	Messages int        `json:"messages"`
	Spans    [][]string `json:"spans"`
	Raw      []byte     `json:"raw"`
}

func loadCases(t testing.TB) []publicCase {
	t.Helper()
	files, err := filepath.Glob("testdata/cases/*.jsonl")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	var cases []publicCase
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var c struct {
				publicCase
				Raw string `json:"raw"`
			}
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			c.publicCase.Raw, err = base64.StdEncoding.DecodeString(c.Raw)
			if err != nil {
				t.Fatalf("%s %s: %v", name, c.ID, err)
			}
			c.publicCase.Raw = bytes.ReplaceAll(c.publicCase.Raw, []byte("@HOST@"), []byte("example.com"))
			cases = append(cases, c.publicCase)
		}
	}
	if len(cases) != 211 {
		t.Fatalf("%d cases, want 211", len(cases))
	}
	return cases
}

var requestLine = regexp.MustCompile(`(?m)^[A-Z]+ \S+ HTTP/1\.1\r\n`)

// aboutItsPoint takes from a case what would be refused before the case comes to its
// point. The suites test a parser, not a proxy: most leave the Host out, so that
// every head without one gets one here, and a set of llhttp's about
// Transfer-Encoding has a fragment in the target.
func aboutItsPoint(id, raw string) string {
	if strings.HasPrefix(id, "request/transfer-encoding.md") {
		raw = strings.Replace(raw, "#hey ", " ", 1)
	}
	var out strings.Builder
	done := 0
	for _, line := range requestLine.FindAllStringIndex(raw, -1) {
		out.WriteString(raw[done:line[1]])
		done = line[1]
		head, _, _ := strings.Cut(raw[line[1]-1:], "\r\n\r\n")
		if !strings.Contains(strings.ToLower(head), "\nhost:") {
			out.WriteString("Host: example.com\r\n")
		}
	}
	return out.String() + raw[done:]
}

// deviations are the cases that lead elsewhere than their suite says: the kind of
// refusal, 0 for acceptance. All cases get a Host first (aboutItsPoint).
var deviations = map[string]struct {
	kind   Kind
	reason string
}{
	// llhttp accepts.
	"request/method.md:29":             {KindConnect, "CONNECT is refused unless configured: RFC 9110, 9.3.6"},
	"request/method.md:64":             {KindConnect, "CONNECT is refused unless configured: RFC 9110, 9.3.6"},
	"request/method.md:98":             {KindConnect, "CONNECT is refused unless configured: RFC 9110, 9.3.6"},
	"request/uri.md:190":               {KindConnect, "CONNECT is refused unless configured: RFC 9110, 9.3.6"},
	"request/method.md:137":            {KindTargetForm, "asterisk-form is for OPTIONS only: RFC 9112, 3.2.4"},
	"request/method.md:374":            {KindVersion, "ICE is not HTTP: RFC 9112, 2.3"},
	"request/method.md:404":            {KindVersion, "RTSP is not HTTP: RFC 9112, 2.3"},
	"request/method.md:432":            {KindVersion, "RTSP is not HTTP: RFC 9112, 2.3"},
	"request/method.md:460":            {KindTargetForm, "asterisk-form is for OPTIONS only: RFC 9112, 3.2.4"},
	"request/sample.md:316":            {KindVersionMissing, "HTTP/0.9: RFC 9112, 2.3"},
	"request/transfer-encoding.md:753": {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"request/transfer-encoding.md:795": {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"request/uri.md:167":               {KindFragment, "a fragment is no part of a request target: RFC 9112, 3.2"},
	"request/uri.md:224":               {KindUserinfo, "userinfo is treated as an error: RFC 9110, 4.2.4"},
	// The test's requests are each other's bodies there; llhttp was told to skip the body.
	"request/content-length.md:446": {0, "the second request is part of the first one's body: RFC 9112, 6.3"},

	// llhttp refuses.
	"request/connection.md:83": {0, "an HTTP/1.0 request without keep-alive is answered, what follows is ignored: RFC 9112, 9.6"},
	"request/invalid.md:68":    {0, "a well-formed unknown method is relayed: RFC 9110, 9.1"},
	"request/invalid.md:358":   {0, "a well-formed unknown method is relayed: RFC 9110, 9.1"},
	"request/invalid.md:492":   {0, "the request line is not complete: nothing to refuse yet; refused once its CRLF is there"},

	// desync-guardian relays.
	"more-compliant-tests.yaml:10":   {KindTransferEncoding, "chunked has no parameters: RFC 9112, 7"},
	"more-compliant-tests.yaml:9":    {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"more-compliant-tests.yaml:8":    {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"more-compliant-tests.yaml:6":    {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"rfc-compliant.yaml:9":           {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"rfc-compliant.yaml:10":          {KindTransferCoding, "a coding that is not understood is a 501: RFC 9112, 6.1"},
	"rfc-compliant.yaml:11":          {KindTransferEncoding, "chunked has no parameters: RFC 9112, 7"},
	"rfc-compliant.yaml:12":          {KindFragment, "a fragment is no part of a request target: RFC 9112, 3.2"},
	"rfc-compliant.yaml:14":          {KindTarget, "the target must not be empty: RFC 9112, 3.2"},
	"uri-specific-test-cases.yaml:2": {KindVersion, "one space separates the parts of a request line and none follows: RFC 9112, 3"},
	"uri-specific-test-cases.yaml:4": {KindVersion, "whitespace in the target: RFC 9112, 3.2"},
}

// TestPublicCases: every case of the public suites leads to what its suite says, or
// to what deviations says, in every delivery.
func TestPublicCases(t *testing.T) {
	used := 0
	for _, c := range loadCases(t) {
		t.Run(c.Suite+"/"+c.ID, func(t *testing.T) {
			raw := string(c.Raw)
			if !strings.HasSuffix(c.ID, "MISSING-HOST") {
				raw = aboutItsPoint(c.ID, raw)
			}
			reading := requestReading(t, raw, nil)
			kind := refusedKind(reading)
			deviation, deviates := deviations[c.ID]
			if deviates {
				used++
				if deviation.reason == "" {
					t.Error("a deviation needs a reason")
				}
				if kind != deviation.kind {
					t.Fatalf("%s\nwant %v: %s", reading, deviation.kind, deviation.reason)
				}
				return
			}
			switch c.Suite {
			case "llhttp":
				checkLLHTTP(t, c, reading, kind)
			case "http11probe":
				checkProbe(t, c, reading, kind)
			case "http-desync-guardian":
				if c.Tier == "Compliant" && kind != 0 {
					t.Errorf("compliant, but\n%s", reading)
				}
			default:
				t.Errorf("unknown suite %s", c.Suite)
			}
		})
	}
	if used != len(deviations) {
		t.Errorf("%d deviations used, %d listed", used, len(deviations))
	}
}

// refusedKind is the kind with which a reading ends, 0 when it does not end with a
// refusal.
func refusedKind(reading string) Kind {
	last := reading[strings.LastIndexByte(reading, '\n')+1:]
	if !strings.HasPrefix(last, "refused ") {
		return 0
	}
	for kind := Kind(1); kind < numKinds; kind++ {
		if strings.HasSuffix(last, ": "+kind.String()) {
			return kind
		}
	}
	return numKinds
}

func checkLLHTTP(t *testing.T, c publicCase, reading string, kind Kind) {
	if strings.HasPrefix(c.Reason, "Pause") {
		// What follows an upgrade is no request to llhttp. To us it is one
		// unless the backend switches, so only what is in front counts.
		reading, _, _ = strings.Cut(reading, "\nrefused")
		kind = 0
	}
	if (c.Expect == "reject") != (kind != 0) {
		t.Errorf("expect %s (%s), got\n%s", c.Expect, c.Reason, reading)
	}
	if c.Expect != "accept" {
		return
	}
	if got := strings.Count(reading, "\n  body "); got < c.Messages {
		t.Errorf("%d messages, want %d:\n%s", got, c.Messages, reading)
	}
	// What llhttp reports is in the reading, in the same order, up to the
	// point where we ignore what follows a close.
	rest, inBody := reading, false
	for _, span := range c.Spans {
		value := strings.TrimRight(strings.ReplaceAll(span[1], `\t`, " "), " ")
		switch span[0] {
		case "body":
			inBody = true // fields behind it are trailers, which are not all kept
			continue
		case "method", "url":
			inBody = false
			value += " "
		case "header_field", "header_value":
			if inBody {
				continue
			}
			value = strconv.Quote(value)
		default:
			continue
		}
		_, after, ok := strings.Cut(rest, value)
		if !ok {
			if !strings.HasSuffix(reading, "\nclose") {
				t.Errorf("%s %s is missing in\n%s", span[0], value, reading)
			}
			return
		}
		rest = after
	}
}

func checkProbe(t *testing.T, c publicCase, reading string, kind Kind) {
	status := 0
	if kind != 0 {
		status = kinds[kind].status
	}
	accepted := strings.Contains(reading, "\n  body ")
	switch {
	case c.Status == "Exact:400":
		if status != 400 {
			t.Errorf("want 400:\n%s", reading)
		}
	case c.Status == "Range2xx":
		if !accepted {
			t.Errorf("want it relayed:\n%s", reading)
		}
	case strings.Contains(c.Expect, "timeout"):
		if accepted {
			t.Errorf("want %s:\n%s", c.Expect, reading)
		}
	case strings.HasPrefix(c.Expect, "400 or close"):
		if status != 400 {
			t.Errorf("want %s:\n%s", c.Expect, reading)
		}
	case strings.HasPrefix(c.Expect, "417"):
		if status != 417 {
			t.Errorf("want %s:\n%s", c.Expect, reading)
		}
	case strings.HasPrefix(c.Expect, "400/405/501 or close"):
		if status != 501 {
			t.Errorf("want %s:\n%s", c.Expect, reading)
		}
	default: // the answer is the backend's
		if !accepted {
			t.Errorf("want %s:\n%s", c.Expect, reading)
		}
	}
}
