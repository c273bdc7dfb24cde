package http1

import (
	"encoding/binary"
	"math/bits"
)

// Character classes. A byte can be in several.
const (
	classToken  = 1 << iota // tchar (RFC 9110, 5.6.2)
	classTarget             // allowed in a request target
	classHost               // allowed in a reg-name, without "%" (RFC 3986, 3.2.2)
	classDigit
	classHex
	classQuoted // qdtext or obs-text (RFC 9110, 5.6.4)
)

// class is the table of character classes.
//
// A target may hold every visible ASCII character except "#", also those that a
// URI has to encode (such as "|" and the double quote): browsers send them, they
// cannot be mistaken for a delimiter of the request line, and they go on
// unchanged. A comma is left out of classHost although a reg-name may contain
// it: a list of two hosts must not pass for one.
var class = func() (t [256]uint8) {
	set := func(bits uint8, chars string) {
		for i := range len(chars) {
			t[chars[i]] |= bits
		}
	}
	for c := 0x21; c <= 0x7e; c++ {
		t[c] |= classTarget
	}
	t['#'] &^= classTarget
	for c := range 26 {
		t['a'+c] |= classToken | classHost
		t['A'+c] |= classToken | classHost
	}
	set(classToken|classHost|classDigit|classHex, "0123456789")
	set(classHex, "abcdefABCDEF")
	set(classToken, "!#$%&'*+-.^_`|~")
	set(classHost, "-._~!$&'()*+;=")
	for c := 0x20; c <= 0xff; c++ {
		t[c] |= classQuoted
	}
	t['\t'] |= classQuoted
	t['"'] &^= classQuoted
	t['\\'] &^= classQuoted
	t[0x7f] &^= classQuoted
	return t
}()

func isToken(c byte) bool { return class[c]&classToken != 0 }

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// scanValue returns the index of the first control character in b[i:], or len(b).
// The word loop looks at 8 bytes at once: with it BenchmarkParse10Fields takes 419
// ns, with a comparison a byte here and in scanTarget 594. A borrow can only mark
// bytes above the lowest one marked, so the lowest is right.
func scanValue(b []byte, i int) int {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ 0x7f*ones
		m := ((x-0x20*ones)&^x | (del-ones)&^del) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(b) && b[i] >= ' ' && b[i] != 0x7f {
		i++
	}
	return i
}

// scanTarget returns the index of the first byte in b[i:] that is not part of a
// request target, or len(b).
func scanTarget(b []byte, i int) int {
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		del, hash := x^0x7f*ones, x^'#'*ones
		m := ((x-0x21*ones)&^x | (del-ones)&^del | (hash-ones)&^hash | x) & highs
		if m != 0 {
			return i + bits.TrailingZeros64(m)>>3
		}
		i += 8
	}
	for i < len(b) && class[b[i]]&classTarget != 0 {
		i++
	}
	return i
}

// scanToken returns the index of the first byte in b[i:] that is not a tchar, or len(b).
func scanToken(b []byte, i int) int {
	for i < len(b) && class[b[i]]&classToken != 0 {
		i++
	}
	return i
}

// lower returns an ASCII letter in lower case and every other byte unchanged.
func lower(c byte) byte {
	if c-'A' < 26 {
		c |= 0x20
	}
	return c
}

// equalFold compares b with an already lower-case string, ignoring the case of
// ASCII letters.
func equalFold(b []byte, lowered string) bool {
	if len(b) != len(lowered) {
		return false
	}
	for i, c := range b {
		if lower(c) != lowered[i] {
			return false
		}
	}
	return true
}

// equalFoldBytes compares two names, ignoring the case of ASCII letters.
func equalFoldBytes(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

// nextElement cuts the first element off a comma-separated list (RFC 9110, 5.6.1),
// without the whitespace around it. Elements may be empty.
func nextElement(list []byte) (element, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trimSpace(list[:i]), list[i+1:]
		}
	}
	return trimSpace(list), nil
}

// trimSpace cuts SP and HTAB off both ends.
func trimSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
