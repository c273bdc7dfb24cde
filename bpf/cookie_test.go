package bpf

import "testing"

// The vectors of the reference implementation: the key counts up, and so do 0 and 15 bytes of message.
func TestSipHash(t *testing.T) {
	var key CookieKey
	message := make([]byte, 15)
	for i := range key {
		key[i] = byte(i)
	}
	for i := range message {
		message[i] = byte(i)
	}
	for n, want := range map[int]uint64{0: 0x726fdb47dd0e0e31, 15: 0xa129ca6149be45e5} {
		if got := key.sipHash(message[:n]); got != want {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
}

func TestCookieIsOfOneFlow(t *testing.T) {
	key := CookieKey{1}
	f := CookieFlow{Local: own4.AsSlice(), Remote: client4.AsSlice(), LocalPort: 80, RemotePort: 40000}
	for mss := range uint32(cookieValues) {
		c := key.Cookie(&f, 1000, 254, mss)
		for now := range 256 {
			if got, want := key.Valid(&f, c, 1000, uint8(now)), uint8(now)-254 <= cookieMaxAge; got != want {
				t.Errorf("at %d the cookie of 254 is valid: %v", now, got)
			}
		}
		if key.Valid(&f, c+1<<10, 1000, 254) || key.Valid(&f, c, 1000+1<<10, 254) {
			t.Error("another number is valid")
		}
		for i, other := range []CookieFlow{
			{f.Remote, f.Local, f.LocalPort, f.RemotePort}, {f.Local, other4.AsSlice(), f.LocalPort, f.RemotePort},
			{f.Local, f.Remote, 81, f.RemotePort}, {f.Local, f.Remote, f.LocalPort, 40001},
		} {
			if key.Valid(&other, c, 1000, 254) {
				t.Errorf("valid for flow %d", i)
			}
		}
		if other := (CookieKey{2}); other.Valid(&f, c, 1000, 254) {
			t.Error("valid with another key")
		}
	}
}
