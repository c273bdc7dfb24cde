package checksum

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// reference is RFC 1071 1 word by word.
func reference(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
		sum = sum>>16 + sum&0xffff
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	return uint16(sum>>16 + sum&0xffff)
}

func TestChecksumOfEveryLengthAndAlignment(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 600)
	for i := range b {
		b[i] = byte(random.Uint32()) | 1
	}
	to := make([]byte, len(b)+1)
	for offset := range 8 {
		for n := range len(b) - 8 {
			initial := uint16(random.Uint32())
			from := b[offset : offset+n]
			got, want := Checksum(from, initial), reference(from, initial)
			if got != want {
				t.Fatalf("%d bytes from %d on with %#x: %#x, want %#x", n, offset, initial, got, want)
			}
			clear(to)
			if sum := Copy(to[7-offset:], from, initial); sum != want || !bytes.Equal(to[7-offset:][:n], from) || to[7-offset+n] != 0 {
				t.Fatalf("%d bytes from %d on with %#x, copied: %#x, want %#x, and the same bytes", n, offset, initial, sum, want)
			}
		}
	}
}

// Carries of every width, and the two zeros of ones' complement.
func TestChecksumOfExtremes(t *testing.T) {
	for _, fill := range []byte{0, 1, 0x80, 0xff} {
		for _, n := range []int{0, 1, 2, 20, 63, 64, 127, 128, 129, 1448, 9000, 65535, 1 << 20} {
			b := make([]byte, n)
			for i := range b {
				b[i] = fill
			}
			for _, initial := range []uint16{0, 1, 0xfffe, 0xffff} {
				if got, want := Checksum(b, initial), reference(b, initial); got != want {
					t.Errorf("%d bytes of %#x with %#x: %#x, want %#x", n, fill, initial, got, want)
				}
			}
			if n == IPv4Bytes && IPv4((*[IPv4Bytes]byte)(b)) != reference(b, 0) {
				t.Errorf("a header of %#x: %#x, want %#x", fill, IPv4((*[IPv4Bytes]byte)(b)), reference(b, 0))
			}
		}
	}
}

// The way without vectors is what other processors take.
func TestChecksumWithAndWithoutBlocks(t *testing.T) {
	if !hasBlocks {
		t.Skip("no AVX2 (amd64 only): there are no vector instructions to compare with")
	}
	b, to := make([]byte, 5000), make([]byte, 5000)
	for i := range b {
		b[i] = byte(i * i >> 3)
	}
	for n := blockBytes; n <= len(b); n += blockBytes {
		var want uint64
		for i := 0; i < n; i += 4 {
			want += uint64(binary.LittleEndian.Uint32(b[i:]))
		}
		if got, copied := sumBlocks(&b[0], n/blockBytes), copyBlocks(&to[0], &b[0], n/blockBytes); got != want || copied != want {
			t.Fatalf("%d bytes: %#x, and copied %#x, want %#x", n, got, copied, want)
		}
	}
}

func FuzzChecksum(f *testing.F) {
	f.Add([]byte("an odd number"), uint16(7))
	f.Add(make([]byte, 200), uint16(0xffff))
	f.Add([]byte("E\x00\x00\x34\x12\x34\x40\x00\x40\x06\xff\xfe\x0a\x01\x00\x02\x0a\x01\x00\x01"), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, initial uint16) {
		got := Checksum(b, initial)
		if want := reference(b, initial); got != want {
			t.Errorf("%#x, want %#x", got, want)
		}
		if half := len(b) / 2 &^ 1; Combine(Checksum(b[:half], initial), Checksum(b[half:], 0)) != got {
			t.Errorf("the sum of halves is another than %#x", got)
		}
		if to := make([]byte, len(b)); Copy(to, b, initial) != got || !bytes.Equal(to, b) {
			t.Errorf("copied: %#x, want %#x", Copy(to, b, initial), got)
		}
		if len(b) >= IPv4Bytes && IPv4((*[IPv4Bytes]byte)(b)) != reference(b[:IPv4Bytes], 0) {
			t.Errorf("as a header: %#x, want %#x", IPv4((*[IPv4Bytes]byte)(b)), reference(b[:IPv4Bytes], 0))
		}
	})
}

func BenchmarkChecksum(b *testing.B) {
	for _, n := range []int{20, 200, 1480, 64 << 10} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			p := make([]byte, n)
			b.SetBytes(int64(n))
			for b.Loop() {
				Checksum(p, 1)
			}
		})
	}
}

// BenchmarkCopy is a payload copied and summed, in one pass and in two, where it comes from and goes to being in the caches and
// not.
func BenchmarkCopy(b *testing.B) {
	const n, stride = 1448, 2048
	for _, frames := range []int{4, 64, 4096, 65536} {
		from, to := make([]byte, frames*stride), make([]byte, frames*stride)
		for name, f := range map[string]func(to, from []byte) uint16{
			"one": func(to, from []byte) uint16 { return Copy(to, from, 1) },
			"two": func(to, from []byte) uint16 { copy(to, from); return Checksum(to, 1) },
		} {
			b.Run(fmt.Sprint(name, "/", frames), func(b *testing.B) {
				b.SetBytes(n)
				for i := 0; b.Loop(); i++ {
					at := i % frames * stride
					f(to[at:at+n], from[at:at+n])
				}
			})
		}
	}
}
