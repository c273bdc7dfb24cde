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
