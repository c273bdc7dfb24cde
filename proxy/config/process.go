package config

import (
	"encoding/hex"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// maxCPU is the greatest number of a CPU: the kernel's CONFIG_NR_CPUS is at most
// 8192.
const maxCPU = 8191

// minRSSKeyBytes is what the hash of two IPv6 addresses and two ports takes: 36
// bytes, and 32 bits more.
const minRSSKeyBytes = 40

// add takes a word or the number of one more CPU.
func (a *Affinity) add(text string) *misfit {
	if text == "off" {
		*a = Affinity{Off: true}
		return nil
	}
	n, bad := parseCount(text)
	if bad != nil || n > maxCPU {
		return misfitf("", "%q is not the number of a CPU: 0 to %d", text, maxCPU)
	}
	a.CPUs = append(a.CPUs, int(n))
	return nil
}

// text is what a file would say; nil for auto.
func (a *Affinity) text() (list []string) {
	if a.Off {
		return []string{"off"}
	}
	for _, n := range a.CPUs {
		list = append(list, strconv.Itoa(n))
	}
	return list
}

// String is the key as a file would say it.
func (r RSSKey) String() string {
	switch {
	case r.Off:
		return "off"
	case len(r.Bytes) == 0:
		return "auto"
	}
	list := make([]string, len(r.Bytes))
	for i := range r.Bytes {
		list[i] = hex.EncodeToString(r.Bytes[i : i+1])
	}
	return strings.Join(list, ":")
}

// parseRSSKey reads bytes as ethtool and /proc/sys/net/core/netdev_rss_key write
// them.
func parseRSSKey(text string) (RSSKey, *misfit) {
	if text == "off" {
		return RSSKey{Off: true}, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil || len(text) != 3*len(b)-1 {
		return RSSKey{}, misfitf("", "%q is not a key: write auto, off, or bytes in hexadecimal with colons, such as 6d:5a:56:da", text)
	}
	if len(b) < minRSSKeyBytes {
		return RSSKey{}, misfitf("", "a key of %d bytes is too short: %d at least", len(b), minRSSKeyBytes)
	}
	return RSSKey{Bytes: b}, nil
}

var userForm = regexp.MustCompile(`^[A-Za-z0-9_.][A-Za-z0-9_.-]*\$?$`)

// parseUser reads a name as useradd takes it, or a number. Whether there is such a
// user shows when it is used.
func parseUser(text string) (string, *misfit) {
	if digits.MatchString(text) {
		// The last number is no user: setuid(2) takes it for "unchanged".
		if n, err := strconv.ParseUint(text, 10, 32); err != nil || n == 1<<32-1 {
			return "", misfitf("", "%s is too large for the number of a user", text)
		}
		return text, nil
	}
	if !userForm.MatchString(text) {
		return "", misfitf("", "%q is not the name or number of a user", text)
	}
	return text, nil
}

// unixPrefix begins the address of a unix socket.
const unixPrefix = "unix:"

// DefaultAdmin is where the admin endpoint listens unless the configuration says
// otherwise.
var DefaultAdmin = AdminAddress{TCP: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 9901)}

// String is the key as a file would say it.
func (a AdminAddress) String() string {
	switch {
	case a.Path != "":
		return unixPrefix + a.Path
	case a.TCP.IsValid():
		return a.TCP.String()
	}
	return "off"
}

// parseAdmin reads an IP address and a port, or unix: and the path of a socket.
func parseAdmin(text string) (AdminAddress, *misfit) {
	path, ok := strings.CutPrefix(text, unixPrefix)
	if !ok {
		a, bad := parseAddress(text)
		return AdminAddress{TCP: a}, bad
	}
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "\x00\n") {
		return AdminAddress{}, misfitf("", "%q is not the path of a socket: write it in full, such as unix:/run/ringroad/admin.sock", text)
	}
	return AdminAddress{Path: filepath.Clean(path)}, nil
}
