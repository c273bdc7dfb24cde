package http1

import "testing"

// TestScan: the word-wise loops stop at exactly the bytes that the classes say, at
// every position of a word and with bytes behind that would stop them too.
func TestScan(t *testing.T) {
	for c := range 256 {
		for at := range 17 {
			b := []byte("abcdefghijklmnopqrstuvwx")
			b[at] = byte(c)
			b[at+2], b[at+3] = 0, '\r'
			wantValue, wantTarget := at+2, at+2
			if c < ' ' || c == 0x7f {
				wantValue = at
			}
			if class[c]&classTarget == 0 {
				wantTarget = at
			}
			if got := scanValue(b, 0); got != wantValue {
				t.Fatalf("value with %#x at %d ends at %d, want %d", c, at, got, wantValue)
			}
			if got := scanTarget(b, 0); got != wantTarget {
				t.Fatalf("target with %#x at %d ends at %d, want %d", c, at, got, wantTarget)
			}
		}
	}
}
