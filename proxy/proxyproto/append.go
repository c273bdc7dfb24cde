package proxyproto

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// AppendV1 appends a header of version 1 for a connection from source to
// destination and returns the extended slice. When one of them is not valid the
// header says UNKNOWN.
func AppendV1(dst []byte, source, destination netip.AddrPort) []byte {
	dst = append(dst, word...)
	from, to, ok := pair(source, destination)
	if !ok {
		return append(append(dst, unknown...), "\r\n"...)
	}
	if from.Is4() {
		dst = append(dst, "TCP4 "...)
	} else {
		dst = append(dst, "TCP6 "...)
	}
	dst = append(from.AppendTo(dst), ' ')
	dst = append(to.AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(source.Port()), 10), ' ')
	dst = strconv.AppendUint(dst, uint64(destination.Port()), 10)
	return append(dst, "\r\n"...)
}

// AppendV2 is AppendV1 for version 2; it says LOCAL when there is nobody to name.
func AppendV2(dst []byte, source, destination netip.AddrPort) []byte {
	dst = append(dst, signature...)
	from, to, ok := pair(source, destination)
	switch {
	case !ok:
		return append(dst, commandLocal, familyUnspec<<4|transportUnspec, 0, 0)
	case from.Is4():
		a, b := from.As4(), to.As4()
		dst = append(dst, commandProxy, familyINET<<4|transportStream, 0, 2*4+2*2)
		dst = append(append(dst, a[:]...), b[:]...)
	default:
		a, b := from.As16(), to.As16()
		dst = append(dst, commandProxy, familyINET6<<4|transportStream, 0, 2*16+2*2)
		dst = append(append(dst, a[:]...), b[:]...)
	}
	dst = binary.BigEndian.AppendUint16(dst, source.Port())
	return binary.BigEndian.AppendUint16(dst, destination.Port())
}

// pair returns both addresses in one family: IPv4 only if both are.
func pair(source, destination netip.AddrPort) (from, to netip.Addr, ok bool) {
	from, to = source.Addr().Unmap().WithZone(""), destination.Addr().Unmap().WithZone("")
	if !from.IsValid() || !to.IsValid() {
		return from, to, false
	}
	if from.Is4() != to.Is4() {
		from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
	}
	return from, to, true
}
