package http1

// splitHost checks uri-host [ ":" port ] (RFC 9110, 7.2; RFC 3986, 3.2.2) and
// returns the length of the host part, brackets of an IPv6 address included. It
// refuses an empty host (RFC 9110, 4.2.1), IPvFuture and zone identifiers, which
// have no meaning to a server, and a comma (see class).
func splitHost(b []byte) (name int, ok bool) {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		for i < len(b) && b[i] != ']' {
			i++
		}
		if i == len(b) || !isIPv6(b[1:i]) {
			return 0, false
		}
		i++
	} else {
		for i < len(b) && b[i] != ':' {
			switch {
			case class[b[i]]&classHost != 0:
				i++
			case b[i] == '%' && i+2 < len(b) && class[b[i+1]]&class[b[i+2]]&classHex != 0:
				i += 3
			default:
				return 0, false
			}
		}
	}
	if i == 0 {
		return 0, false
	}
	return i, i == len(b) || b[i] == ':' && isPort(b[i+1:])
}

// isPort accepts up to five digits with a value that fits a port. An empty port is
// valid and means the default one (RFC 3986, 3.2.3).
func isPort(b []byte) bool {
	if len(b) > 5 {
		return false
	}
	n := 0
	for _, c := range b {
		if class[c]&classDigit == 0 {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// isIPv6 checks the text form of an IPv6 address (RFC 3986, 3.2.2).
func isIPv6(b []byte) bool {
	groups, compressed := 0, false
	if len(b) >= 2 && b[0] == ':' && b[1] == ':' {
		compressed = true
		b = b[2:]
	}
	for len(b) > 0 {
		n := 0
		for n < len(b) && class[b[n]]&classHex != 0 {
			n++
		}
		if n < len(b) && b[n] == '.' {
			groups += 2
			if !isIPv4(b) {
				return false
			}
			break
		}
		if n == 0 || n > 4 {
			return false
		}
		groups++
		b = b[n:]
		if len(b) == 0 {
			break
		}
		if b[0] != ':' || len(b) == 1 {
			return false
		}
		b = b[1:]
		if b[0] == ':' {
			if compressed {
				return false
			}
			compressed = true
			b = b[1:]
		}
	}
	return compressed && groups < 8 || !compressed && groups == 8
}

// isIPv4 checks four decimal octets.
func isIPv4(b []byte) bool {
	for octet := range 4 {
		n, value := 0, 0
		for n < len(b) && class[b[n]]&classDigit != 0 && n < 4 {
			value = value*10 + int(b[n]-'0')
			n++
		}
		if n == 0 || value > 255 || n > 1 && b[0] == '0' {
			return false
		}
		b = b[n:]
		if octet < 3 {
			if len(b) == 0 || b[0] != '.' {
				return false
			}
			b = b[1:]
		}
	}
	return len(b) == 0
}
