package proxyproto

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
)

// Sizes of headers, in bytes.
const (
	// maxLine is the longest line of version 1, with its CRLF (section 2.1).
	maxLine = 107
	// prefixBytes is what a header of version 2 has in front of the length that
	// it states, that length included.
	prefixBytes = 16
	// maxBlock is the longest block behind it. The specification permits 64 KiB,
	// but names no extension that comes near this.
	maxBlock = 4096 - prefixBytes
	// MaxBytes bounds every header.
	MaxBytes = prefixBytes + maxBlock
)

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n" // of version 2
	word      = "PROXY "                 // that begins version 1
	unknown   = "UNKNOWN"                // of version 1, in place of a protocol
)

// Header is what a header says.
type Header struct {
	Version int // 1 or 2
	// Source and Destination are those of the client's connection. Not valid
	// when the header names none: UNKNOWN, LOCAL, or a protocol other than TCP.
	// Then those of the connection count.
	Source, Destination netip.AddrPort
}

// Reasons to refuse what a connection begins with.
var (
	ErrNoHeader    = errors.New("no PROXY protocol header")
	ErrLine        = errors.New("malformed PROXY line")
	ErrLineTooLong = errors.New("PROXY line without an end within 107 bytes")
	ErrVersion     = errors.New("unknown version of the PROXY protocol")
	ErrCommand     = errors.New("unknown command of the PROXY protocol")
	ErrProtocol    = errors.New("unknown address family or transport in the PROXY header")
	ErrTooLong     = errors.New("PROXY header longer than 4096 bytes")
	ErrBlock       = errors.New("PROXY header too short for its addresses, or with a malformed extension")
	ErrChecksum    = errors.New("wrong checksum of the PROXY header")
)

// Parse reads the header that a connection begins with. b is everything that has
// come, n the length of the header in it. n == 0 without an error asks for more;
// with MaxBytes there always is an answer. An error is final.
func Parse(b []byte) (h Header, n int, err error) {
	switch {
	case startsWith(b, word):
		return parseLine(b)
	case startsWith(b, signature):
		return parseBinary(b)
	}
	return h, 0, ErrNoHeader
}

// startsWith tells whether b begins with prefix, as far as it has come.
func startsWith(b []byte, prefix string) bool {
	n := min(len(b), len(prefix))
	return string(b[:n]) == prefix[:n]
}

// parseLine reads version 1.
func parseLine(b []byte) (h Header, n int, err error) {
	// Not even ignored text (UNKNOWN) may hold one of CR and LF alone.
	i := bytes.IndexAny(b[:min(len(b), maxLine)], "\r\n")
	switch {
	case i < 0 && len(b) >= maxLine:
		return h, 0, ErrLineTooLong
	case i < 0:
		return h, 0, nil
	case b[i] == '\n':
		return h, 0, ErrLine
	case i+2 > maxLine: // whatever comes behind the CR, which may not be there yet
		return h, 0, ErrLineTooLong
	case i+1 < len(b) && b[i+1] != '\n':
		return h, 0, ErrLine
	case i+1 == len(b):
		return h, 0, nil
	}
	h.Version = 1
	line := b[len(word):i]
	if protocol, _, _ := bytes.Cut(line, []byte(" ")); string(protocol) == unknown {
		return h, i + 2, nil
	}
	parts := bytes.Split(line, []byte(" "))
	if len(parts) != 5 {
		return h, 0, ErrLine
	}
	var v4 bool
	switch string(parts[0]) {
	case "TCP4":
		v4 = true
	case "TCP6":
	default:
		return h, 0, ErrLine
	}
	source, ok1 := parseEndpoint(parts[1], parts[3], v4)
	destination, ok2 := parseEndpoint(parts[2], parts[4], v4)
	if !ok1 || !ok2 {
		return h, 0, ErrLine
	}
	h.Source, h.Destination = source, destination
	return h, i + 2, nil
}

// parseEndpoint reads an address of the family and a port.
func parseEndpoint(address, port []byte, v4 bool) (netip.AddrPort, bool) {
	a, err := netip.ParseAddr(string(address))
	if err != nil || a.Is4() != v4 || a.Zone() != "" {
		return netip.AddrPort{}, false
	}
	if len(port) == 0 || len(port) > len("65535") || port[0] == '0' && len(port) > 1 {
		return netip.AddrPort{}, false
	}
	n := 0
	for _, c := range port {
		if c < '0' || c > '9' {
			return netip.AddrPort{}, false
		}
		n = n*10 + int(c-'0')
	}
	return netip.AddrPortFrom(a, uint16(n)), n <= 65535
}

// Values of version 2 (section 2.2).
const (
	commandLocal = 0x20 // with the version
	commandProxy = 0x21

	familyUnspec = 0x0
	familyINET   = 0x1
	familyINET6  = 0x2
	familyUNIX   = 0x3

	transportUnspec = 0x0
	transportStream = 0x1
	transportDgram  = 0x2

	extensionCRC32C = 0x03 // the one extension that a receiver has to look at
)

// parseBinary reads version 2. Each byte of the prefix is judged when it is there.
func parseBinary(b []byte) (h Header, n int, err error) {
	const at = len(signature)
	if len(b) > at {
		switch c := b[at]; {
		case c>>4 != 2:
			return h, 0, ErrVersion
		case c != commandLocal && c != commandProxy:
			return h, 0, ErrCommand
		}
	}
	if len(b) > at+1 && (b[at+1]>>4 > familyUNIX || b[at+1]&15 > transportDgram) {
		return h, 0, ErrProtocol
	}
	if len(b) < prefixBytes {
		return h, 0, nil
	}
	n = prefixBytes + int(binary.BigEndian.Uint16(b[at+2:]))
	if n > MaxBytes {
		return h, 0, ErrTooLong
	}
	if len(b) < n {
		return h, 0, nil
	}
	h.Version = 2
	if b[at] == commandLocal {
		return h, n, nil // the block is ignored, whatever it holds
	}
	addressBytes, known := 0, true
	switch b[at+1] >> 4 {
	case familyUnspec:
		known = false
	case familyINET:
		addressBytes = 2*4 + 2*2
	case familyINET6:
		addressBytes = 2*16 + 2*2
	case familyUNIX:
		addressBytes = 2 * 108
	}
	if b[at+1]&15 == transportUnspec || !known {
		return h, n, nil // nobody knows where addresses end and extensions begin
	}
	block := b[prefixBytes:n]
	if len(block) < addressBytes {
		return h, 0, ErrBlock
	}
	if err := checkExtensions(b[:n], prefixBytes+addressBytes); err != nil {
		return h, 0, err
	}
	if b[at+1]&15 != transportStream {
		return h, n, nil
	}
	switch b[at+1] >> 4 {
	case familyINET:
		h.Source = endpoint(block[0:4], block[8:10])
		h.Destination = endpoint(block[4:8], block[10:12])
	case familyINET6:
		h.Source = endpoint(block[0:16], block[32:34])
		h.Destination = endpoint(block[16:32], block[34:36])
	}
	return h, n, nil
}

func endpoint(address, port []byte) netip.AddrPort {
	a, _ := netip.AddrFromSlice(address)
	return netip.AddrPortFrom(a, binary.BigEndian.Uint16(port))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checkExtensions goes through the extensions of header, which begin at i, and
// verifies the checksum if there is one (section 2.2.4).
func checkExtensions(header []byte, i int) error {
	for i < len(header) {
		if len(header)-i < 3 {
			return ErrBlock
		}
		kind, size := header[i], int(binary.BigEndian.Uint16(header[i+1:]))
		i += 3
		if len(header)-i < size {
			return ErrBlock
		}
		if kind == extensionCRC32C {
			if size != 4 {
				return ErrBlock
			}
			// The sum is over the header with zeros in place of the sum.
			sum := crc32.Update(0, castagnoli, header[:i])
			sum = crc32.Update(sum, castagnoli, make([]byte, 4))
			sum = crc32.Update(sum, castagnoli, header[i+4:])
			if sum != binary.BigEndian.Uint32(header[i:]) {
				return ErrChecksum
			}
		}
		i += size
	}
	return nil
}
