package config

import (
	"reflect"
	"testing"
)

func TestParseText(t *testing.T) {
	v := func(v Variable) Piece { return Piece{Variable: v} }
	s := func(s string) Piece { return Piece{Text: s} }
	for _, c := range []struct {
		text string
		want []Piece // nil: an error
	}{
		{"plain", []Piece{s("plain")}},
		{"$host", []Piece{v(VarHost)}},
		{"https://$host$request_uri", []Piece{s("https://"), v(VarHost), v(VarRequestURI)}},
		{"${scheme}s ${remote_addr}.", []Piece{v(VarScheme), s("s "), v(VarRemoteAddr), s(".")}},
		{"a$$b$$$host", []Piece{s("a$b$"), v(VarHost)}},
		{"$$$$", []Piece{s("$$")}},
		{"$", nil},
		{"a$-", nil},
		{"${host", nil},
		{"$hostname", nil},
		{"${}", nil},
		{"$HOST", nil},
	} {
		got, err := ParseText(c.text)
		if (err == nil) != (c.want != nil) || err == nil && !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: got %+v, %v, want %+v", c.text, got, err, c.want)
		}
	}
}

// TestTextsComeBack: whatever a text holds, YAML writes it so that it is read again.
func TestTextsComeBack(t *testing.T) {
	for _, s := range []string{
		"plain", "two words", " around ", "- dash", "#", "a: b", "a #b", "'", `"`, `\`, `\n`, "a\nb\n", "\r\n", "\t", "\x01\x1b\x7f", "é", "\u0085\u2028\ufeff",
		"\U0001f600", "\U000e0001", "null", "~", "on", "1e3", "0x1", "{a: b}", "[a]", "*a", "&a", "!a", "|", ">", "%a", "@a", "`a", "$host", "a,b", "?", "? a", "---", "...",
	} {
		c, err := Parse("f", []byte(valid))
		if err != nil {
			t.Fatal(err)
		}
		c.Listeners[0].Routes = []Route{{Return: &Return{Status: 200, Body: s, Type: "text/plain"}}}
		if err := c.Validate(); err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		again, err := Parse("again", []byte(c.YAML()))
		if err != nil {
			t.Errorf("%q: %v\n%s", s, err, c.YAML())
			continue
		}
		if got := again.Listeners[0].Routes[0].Return.Body; got != s {
			t.Errorf("%q came back as %q", s, got)
		}
	}
}
