package conformance

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/textproto"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ringroad/stack"
)

// publicCases is where package http1 keeps the cases of the public suites, with their
// attribution.
const publicCases = "../../proxy/http1/testdata/cases"

// publicCase is one line of them.
type publicCase struct {
	Suite    string     `json:"suite"`
	ID       string     `json:"id"`
	Expect   string     `json:"expect"`
	Status   string     `json:"status"`
	Reason   string     `json:"reason"`
	Messages int        `json:"messages"`
	Spans    [][]string `json:"spans"`
	Raw      string     `json:"raw"`
}

func loadCases(t testing.TB) (cases []publicCase) {
	t.Helper()
	files, err := filepath.Glob(publicCases + "/*.jsonl")
	if err != nil || len(files) != 3 {
		t.Fatalf("found %v, %v", files, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(data))
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var c publicCase
			if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			raw, err := base64.StdEncoding.DecodeString(c.Raw)
			if err != nil {
				t.Fatalf("%s: %v", c.ID, err)
			}
			c.Raw = strings.ReplaceAll(string(raw), "@HOST@", "example.com")
			cases = append(cases, c)
		}
	}
	if len(cases) != 211 {
		t.Fatalf("%d cases, want 211", len(cases))
	}
	return cases
}

var requestStart = regexp.MustCompile(`(?m)^[A-Z]+ \S+ HTTP/1\.1\r\n`)

// withHost gives a Host to every head that has none. The suites test parsers, and
// most of their requests would be refused for want of a Host before they come to
// their point.
func withHost(raw string) string {
	var out strings.Builder
	done := 0
	for _, l := range requestStart.FindAllStringIndex(raw, -1) {
		out.WriteString(raw[done:l[1]])
		done = l[1]
		head, _, _ := strings.Cut(raw[l[1]-1:], "\r\n\r\n")
		if !strings.Contains(strings.ToLower(head), "\nhost:") {
			out.WriteString("Host: example.com\r\n")
		}
	}
	return out.String() + raw[done:]
}

// deviations are the cases that lead elsewhere than their suite says.
var deviations = map[string]struct {
	class  class
	status int // of the refusal
	reason string
}{
	// llhttp accepts.
	"request/method.md:29":             {reject, 501, "CONNECT is refused unless configured: RFC 9110 9.3.6"},
	"request/method.md:64":             {reject, 501, "CONNECT is refused unless configured: RFC 9110 9.3.6"},
	"request/method.md:98":             {reject, 501, "CONNECT is refused unless configured: RFC 9110 9.3.6"},
	"request/uri.md:190":               {reject, 501, "CONNECT is refused unless configured: RFC 9110 9.3.6"},
	"request/method.md:137":            {reject, 400, "asterisk-form is for OPTIONS only: RFC 9112 3.2.4"},
	"request/method.md:374":            {reject, 400, "ICE is not HTTP: RFC 9112 2.3"},
	"request/method.md:404":            {reject, 400, "RTSP is not HTTP: RFC 9112 2.3"},
	"request/method.md:432":            {reject, 400, "RTSP is not HTTP: RFC 9112 2.3"},
	"request/method.md:460":            {reject, 400, "asterisk-form is for OPTIONS only: RFC 9112 3.2.4"},
	"request/sample.md:316":            {reject, 400, "HTTP/0.9: RFC 9112 2.3"},
	"request/transfer-encoding.md:753": {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"request/transfer-encoding.md:795": {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"request/uri.md:167":               {reject, 400, "a fragment is no part of a request target: RFC 9112 3.2"},
	"request/uri.md:224":               {reject, 400, "userinfo is treated as an error: RFC 9110 4.2.4"},
	// The second request is the first one's body; llhttp was told to skip the body.
	"request/content-length.md:446": {wait, 0, "a body has the announced length: RFC 9112 6.3"},

	// llhttp refuses.
	"request/connection.md:83":  {accept, 0, "what follows a request without keep-alive is ignored: RFC 9112 9.6"},
	"request/connection.md:296": {accept, 0, "what follows Connection: close is ignored, and the spans are another case's: RFC 9112 9.6"},
	"request/invalid.md:68":     {accept, 0, "a well-formed unknown method is relayed: RFC 9110 9.1"},
	"request/invalid.md:358":    {accept, 0, "a well-formed unknown method is relayed: RFC 9110 9.1"},
	"request/invalid.md:492":    {wait, 0, "the request line is not complete: RFC 9112 3"},

	// desync-guardian relays.
	"acceptable.yaml:1":              {reject, 400, "whitespace in front of a colon: RFC 9112 5.1"},
	"acceptable.yaml:2":              {reject, 400, "whitespace in front of a colon: RFC 9112 5.1"},
	"acceptable.yaml:3":              {reject, 400, "a field name is a token: RFC 9110 5.1"},
	"acceptable.yaml:4":              {reject, 400, "whitespace in front of a colon: RFC 9112 5.1"},
	"acceptable.yaml:7":              {reject, 505, "HTTP/0.9 with a version: RFC 9110 15.6.6"},
	"acceptable.yaml:8":              {reject, 400, "no version: RFC 9112 2.3"},
	"acceptable.yaml:9":              {reject, 505, "there is no HTTP/1.2: RFC 9110 15.6.6"},
	"bad-header-characters.yaml:12":  {reject, 400, "a field name is a token: RFC 9110 5.1"},
	"bad-header-characters.yaml:13":  {reject, 400, "a field name is a token: RFC 9110 5.1"},
	"bad-header-characters.yaml:14":  {reject, 400, "a control character in a field value: RFC 9110 5.5"},
	"bad-header-characters.yaml:15":  {reject, 400, "a control character in a field value: RFC 9110 5.5"},
	"more-compliant-tests.yaml:6":    {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"more-compliant-tests.yaml:8":    {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"more-compliant-tests.yaml:9":    {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"more-compliant-tests.yaml:10":   {reject, 400, "chunked has no parameters: RFC 9112 7"},
	"rfc-compliant.yaml:9":           {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"rfc-compliant.yaml:10":          {reject, 501, "a coding that is not understood: RFC 9112 6.1"},
	"rfc-compliant.yaml:11":          {reject, 400, "chunked has no parameters: RFC 9112 7"},
	"rfc-compliant.yaml:12":          {reject, 400, "a fragment is no part of a request target: RFC 9112 3.2"},
	"rfc-compliant.yaml:14":          {reject, 400, "the target must not be empty: RFC 9112 3.2"},
	"uri-specific-test-cases.yaml:2": {reject, 400, "whitespace behind the version: RFC 9112 3"},
	"uri-specific-test-cases.yaml:4": {reject, 400, "whitespace in the target: RFC 9112 3.2"},
}

// TestPublicCases: every case leads to what its suite says, or to what deviations
// says. What has no Host is tried as it is, too, and must be refused (RFC 9112 3.2).
func TestPublicCases(t *testing.T) {
	t.Parallel()
	b, parent := newBench(t), t
	used := map[string]bool{}
	for _, c := range loadCases(t) {
		t.Run(c.Suite+"/"+c.ID, func(t *testing.T) {
			b.t = t
			defer func() { b.t = parent }()
			if strings.HasPrefix(c.ID, "request/transfer-encoding.md") {
				c.Raw = strings.Replace(c.Raw, "#hey ", " ", 1) // a fragment, which is another case's point
			}
			raw := c.Raw
			if c.ID != "RFC9112-7.1-MISSING-HOST" {
				raw = withHost(raw)
			}
			if raw != c.Raw {
				c.withoutHost(b)
			}
			o, whole := b.deliveries(raw)
			var wrong error
			if d, deviates := deviations[c.ID]; deviates {
				used[c.ID] = true
				wrong = expect(o, d.class, d.status)
				if !strings.Contains(d.reason, "RFC ") {
					t.Error("a deviation needs a reason with a section")
				}
			} else {
				wrong = c.judge(o, whole)
			}
			if wrong != nil {
				t.Error(wrong)
			}
			if t.Failed() {
				t.Logf("%q\n%v", raw, o)
			}
		})
	}
	for id := range deviations {
		if !used[id] {
			t.Errorf("deviation %s is not used", id)
		}
	}
	b.bystander.close()
	b.idle(0)
}

// TestPublicCasesWithHeldACKs: cases of every suite lead to the same when the stack holds its
// ACKs, as it does unless configured otherwise.
func TestPublicCasesWithHeldACKs(t *testing.T) {
	t.Parallel()
	held, prompt := newBenchOn(t, nil), newBench(t)
	for i, c := range loadCases(t) {
		if i%8 != 0 {
			continue
		}
		t.Run(c.Suite+"/"+c.ID, func(t *testing.T) {
			defer func(t testing.TB) { held.t, prompt.t = t, t }(held.t)
			held.t, prompt.t = t, t
			raw := withHost(c.Raw)
			got, _ := held.deliveries(raw)
			if want, _ := prompt.trial([]string{raw}); !equal(got, want) {
				t.Errorf("%v\nwithout: %v", got, want)
			}
		})
	}
	seen := make(chan stack.LinkStats)
	held.worker.Post(func() { seen <- held.Stack.LinkStats(1) })
	if s := <-seen; s.AcksHeld == 0 || s.AcksSaved == 0 || s.AcksExpired == 0 {
		t.Errorf("%d ACKs held, %d saved, %d sent in the end", s.AcksHeld, s.AcksSaved, s.AcksExpired)
	}
	held.bystander.close()
	prompt.bystander.close()
	held.idle(0)
	prompt.idle(0)
}

// withoutHost tries the case as it is, in the deliveries that can make a difference to
// a missing Host. The requests in front of the one that has none are served, and a
// head may be wrong for another reason first, or not be complete.
func (c *publicCase) withoutHost(b *bench) {
	want, whole := b.trial([]string{c.Raw})
	if got, _ := b.trial(cut(c.Raw, lineEnds(c.Raw))); !reflect.DeepEqual(got, want) {
		b.t.Errorf("split at line ends: %v\nwhole: %v", got, want)
	}
	ofHTTP10 := strings.Contains(c.Raw, "HTTP/1.0\r\n")
	for _, m := range whole {
		// The worker puts the address in for a client of HTTP/1.0 that names no host.
		if m.get("Host") == front && !ofHTTP10 || m.get("Host") == "" {
			b.t.Errorf("without a Host: %v", want)
		}
	}
	closes := strings.Contains(strings.ToLower(c.Raw), "\nconnection: close")
	if !ofHTTP10 && want.status < 400 && !want.waiting && !closes {
		b.t.Errorf("without a Host: %v", want)
	}
}

// expect checks the class of an outcome.
func expect(o outcome, c class, status int) error {
	refused := o.status != 0 && !o.waiting
	switch {
	case c == accept && o.status == 0 && !o.waiting && len(o.whole) > 0,
		c == wait && o.waiting,
		c == reject && refused && (status == 0 || o.status == status):
		return nil
	}
	return fmt.Errorf("want %v (%d): %v", c, status, o)
}

// judge compares an outcome with what the case's suite says.
func (c *publicCase) judge(o outcome, whole []*message) error {
	switch c.Suite {
	case "llhttp":
		return c.judgeLLHTTP(o, whole)
	case "http11probe":
		return c.judgeProbe(o)
	case "http-desync-guardian":
		// Heads, some of which announce a body that does not come.
		if o.status != 0 && !o.waiting || len(o.whole)+len(o.begun) == 0 {
			return fmt.Errorf("want it relayed: %v", o)
		}
		return nil
	}
	return fmt.Errorf("unknown suite %s", c.Suite)
}

// judgeProbe reads the words of Http11Probe.
func (c *publicCase) judgeProbe(o outcome) error {
	switch {
	case c.Status == "Exact:400", strings.HasPrefix(c.Expect, "400 or close"):
		return expect(o, reject, 400)
	case strings.Contains(c.Expect, "timeout"):
		if len(o.whole) > 0 {
			return fmt.Errorf("want %s: %v", c.Expect, o)
		}
		return nil
	case strings.HasPrefix(c.Expect, "417"):
		return expect(o, reject, 417)
	case strings.HasPrefix(c.Expect, "400/405/501 or close"):
		return expect(o, reject, 501)
	}
	return expect(o, accept, 0) // the answer is the backend's
}

// judgeLLHTTP compares the requests that the backend got with the spans that llhttp
// reports.
func (c *publicCase) judgeLLHTTP(o outcome, whole []*message) error {
	want := c.fromSpans()
	if strings.HasPrefix(c.Reason, "Pause") {
		// What follows an upgrade is no request to llhttp. To us it is one unless
		// the backend switches, so only what is in front counts.
		whole = whole[:min(len(whole), len(want))]
	} else if c.Expect == "reject" {
		return expect(o, reject, 0)
	} else if o.status != 0 && !o.waiting {
		return fmt.Errorf("want it relayed: %v", o)
	}
	if o.waiting && len(whole) == len(want)-1 {
		want = want[:len(whole)] // the last one is not complete
	}
	if len(whole) != len(want) {
		return fmt.Errorf("%d requests, want %d: %v", len(whole), len(want), o)
	}
	for i, w := range want {
		g := whole[i]
		if g.method != w.method || g.target != w.target && !strings.Contains(w.target, "://") || g.body != w.body {
			return fmt.Errorf("request %d is %s, want %s", i, render(g), render(w))
		}
		rest := g.fields
		for _, f := range w.fields {
			k := slices.Index(rest, f)
			if k < 0 {
				return fmt.Errorf("request %d: %q is missing in %s", i, f, render(g))
			}
			rest = rest[k+1:]
		}
	}
	return nil
}

// fromSpans puts the requests together that llhttp reports, without what a proxy
// must not forward unchanged.
func (c *publicCase) fromSpans() (all []*message) {
	var m *message
	inBody := false
	hop := []string{"Host", "Connection", "Proxy-Connection", "Keep-Alive", "Upgrade", "Te", "Trailer", "Content-Length", "Transfer-Encoding", "Expect"}
	for _, span := range c.Spans {
		value := strings.TrimRight(strings.ReplaceAll(span[1], `\t`, "\t"), " \t")
		switch span[0] {
		case "method":
			m, inBody = &message{method: value}, false
			all = append(all, m)
		case "url":
			m.target += value
		case "body":
			m.body += span[1]
			inBody = true
		case "header_field":
			if !inBody {
				m.fields = append(m.fields, field{name: value})
			}
		case "header_value":
			if !inBody {
				m.fields[len(m.fields)-1].value += value
			}
		}
	}
	for _, m := range all {
		m.fields = slices.DeleteFunc(m.fields, func(f field) bool {
			return slices.Contains(hop, textproto.CanonicalMIMEHeaderKey(f.name))
		})
	}
	return slices.DeleteFunc(all, func(m *message) bool { return reflect.DeepEqual(m, &message{}) })
}
