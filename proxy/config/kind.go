package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// kind is the type of a key as operators see it.
type kind string

const (
	section       kind = "section"  // holds other keys
	word          kind = "word"     // one of a few
	boolean       kind = "on/off"   //
	count         kind = "number"   // whole and not negative
	size          kind = "size"     // bytes, or with a suffix KiB, MiB, GiB
	duration      kind = "duration" // number and unit, 5s, 100ms
	address       kind = "address"  // IP:port
	ports         kind = "ports"    // FIRST-LAST
	prefix        kind = "prefix"   // IP/bits, or an IP
	interfaceName kind = "interface"
	hostPattern   kind = "host"
	pathPrefix    kind = "path"
	protocol      kind = "protocol" // of an upgrade
	reference     kind = "upstream" // name of an upstream
	level         kind = "level"    // of log messages
	file          kind = "file"
	cpu           kind = "CPU"  // its number
	userName      kind = "user" // name or number
	hashKey       kind = "key"  // bytes in hexadecimal
	fieldName     kind = "field name"
	fieldText     kind = "field value" // may hold variables
	text          kind = "text"        // on one line
	longText      kind = "long text"   // may be a block
)

// pair is the place of one entry of a section whose keys the operator chooses.
type pair struct {
	name string
	list any // pointer to a slice
}

// misfit is why a text is not a value of a kind.
type misfit struct {
	message string
	nearest string // what was probably meant; "" unknown
}

func (m *misfit) Error() string { return m.message }

func misfitf(nearest, format string, a ...any) *misfit {
	return &misfit{message: fmt.Sprintf(format, a...), nearest: nearest}
}

// set puts text, as a file or a flag says it, into what p points to; to a
// slice it appends. It checks the form only: ranges are Validate's.
func (k *key) set(p any, text string) *misfit {
	if k.zeroWord() && text == k.values[0] {
		reflect.ValueOf(p).Elem().SetZero() // "auto", "off"
		return nil
	}
	switch p := p.(type) {
	case *pair:
		return k.setPair(p, text)
	case *[]string:
		var one string
		if bad := k.set(&one, text); bad != nil {
			return bad
		}
		*p = append(*p, one)
		return nil
	case *[]netip.AddrPort:
		one, bad := parseAddress(text)
		if bad == nil {
			*p = append(*p, one)
		}
		return bad
	case *[]netip.Prefix:
		one, bad := parsePrefix(text)
		if bad == nil {
			*p = append(*p, one)
		}
		return bad
	case *netip.AddrPort:
		return assign(p, text, parseAddress)
	case *AdminAddress:
		return assign(p, text, parseAdmin)
	case *bool:
		return assign(p, text, parseBool)
	case *time.Duration:
		return assign(p, text, parseDuration)
	case *PortRange:
		return assign(p, text, parsePorts)
	case *Affinity:
		return p.add(text)
	case *RSSKey:
		return assign(p, text, parseRSSKey)
	case *slog.Level:
		if bad := oneOf(k.values, text); bad != nil {
			return bad
		}
		// The words of the table are slog's own names, which it reads in any case.
		if err := p.UnmarshalText([]byte(text)); err != nil {
			return misfitf("", "%v", err)
		}
		return nil
	case *int:
		n, bad := k.parseNumber(text)
		if bad == nil && n > 1<<31-1 {
			bad = misfitf("", "%s is too large", text)
		}
		if bad == nil {
			*p = int(n)
		}
		return bad
	case *int64:
		return assign(p, text, k.parseNumber)
	case *string:
		return assign(p, text, k.parseText)
	}
	if bad := oneOf(k.values, text); bad != nil {
		return bad
	}
	reflect.ValueOf(p).Elem().SetString(text)
	return nil
}

// zeroWord tells whether the first word of the key stands for the zero value.
func (k *key) zeroWord() bool {
	return len(k.values) > 0 && k.kind != word && k.kind != level
}

// setPair appends an entry to the list that p belongs to.
func (k *key) setPair(p *pair, text string) *misfit {
	switch list := p.list.(type) {
	case *[]Field:
		*list = append(*list, Field{Name: p.name, Value: text})
	case *[]ErrorPage:
		status, bad := parseCount(p.name)
		if bad != nil || status < 400 || status > 599 {
			return misfitf("", "%q is not the status of an error: 400 to 599", p.name)
		}
		*list = append(*list, ErrorPage{Status: int(status), File: text})
	default:
		panic(fmt.Sprintf("no pairs in %T", p.list)) // a row of the table without a case: TestRoundTrip
	}
	return nil
}

// appendZero keeps the place of an element that could not be read, so that
// those behind it have the index that they have in the document.
func appendZero(p any) {
	if a, ok := p.(*Affinity); ok {
		p = &a.CPUs
	}
	list := reflect.ValueOf(p).Elem()
	list.Set(reflect.Append(list, reflect.Zero(list.Type().Elem())))
}

// emptyList makes the list that p points to empty, which is more than the zero
// value: somebody said so.
func emptyList(p any) {
	if a, ok := p.(*Affinity); ok {
		*a = Affinity{}
		return // its list is never empty on purpose
	}
	list := reflect.ValueOf(p).Elem()
	list.Set(reflect.MakeSlice(list.Type(), 0, 1))
}

func assign[T any](p *T, text string, parse func(string) (T, *misfit)) *misfit {
	v, bad := parse(text)
	if bad == nil {
		*p = v
	}
	return bad
}

// text returns the value that p points to as a file would say it; of a slice,
// each element; of pairs, each name and its value.
func (k *key) text(p any) []string {
	if isZero(p) && (k.zeroWord() || k.kind == word && k.values[0] == "off") {
		return k.values[:1]
	}
	switch p := p.(type) {
	case *[]string:
		return *p
	case *[]netip.AddrPort:
		list := make([]string, len(*p))
		for i, a := range *p {
			list[i] = a.String()
		}
		return list
	case *[]netip.Prefix:
		list := make([]string, len(*p))
		for i, a := range *p {
			list[i] = a.String()
		}
		return list
	case *AdminAddress:
		return []string{p.String()}
	case *[]Field:
		var list []string
		for _, f := range *p {
			list = append(list, f.Name, f.Value)
		}
		return list
	case *[]ErrorPage:
		var list []string
		for _, page := range *p {
			list = append(list, strconv.Itoa(page.Status), page.File)
		}
		return list
	case *bool:
		if *p {
			return []string{"on"}
		}
		return []string{"off"}
	case *time.Duration:
		return []string{formatDuration(*p)}
	case *PortRange:
		return []string{fmt.Sprintf("%d-%d", p.First, p.Last)}
	case *Affinity:
		return p.text()
	case *RSSKey:
		return []string{p.String()}
	case *slog.Level:
		return []string{strings.ToLower(p.String())}
	case *int:
		return []string{k.formatNumber(int64(*p))}
	case *int64:
		return []string{k.formatNumber(*p)}
	}
	return []string{fmt.Sprint(reflect.ValueOf(p).Elem().Interface())}
}

func (k *key) parseNumber(text string) (int64, *misfit) {
	if k.kind == size {
		return parseSize(text)
	}
	return parseCount(text)
}

func (k *key) formatNumber(n int64) string {
	if k.kind == size {
		return formatSize(n)
	}
	return strconv.FormatInt(n, 10)
}

func (k *key) parseText(text string) (string, *misfit) {
	switch k.kind {
	case interfaceName:
		return parseInterface(text)
	case hostPattern:
		return parseHost(text)
	case pathPrefix:
		return parsePath(text)
	case protocol:
		return parseProtocol(text)
	case userName:
		return parseUser(text)
	}
	if text == "" {
		return "", misfitf("", "is empty")
	}
	return text, nil
}

func oneOf(words []string, text string) *misfit {
	if slices.Contains(words, text) {
		return nil
	}
	if len(words) == 1 {
		return misfitf("", "%q is not possible: the only value is %s", text, words[0])
	}
	return misfitf(nearest(text, words), "%q is not one of %s", text, strings.Join(words, ", "))
}

func parseBool(text string) (bool, *misfit) {
	switch strings.ToLower(text) {
	case "on", "true", "yes":
		return true, nil
	case "off", "false", "no":
		return false, nil
	}
	return false, misfitf("", "%q is neither on nor off", text)
}

var digits = regexp.MustCompile(`^(0|[1-9][0-9]*)$`)

func parseCount(text string) (int64, *misfit) {
	if !digits.MatchString(text) {
		return 0, misfitf("", "%q is not a whole number", text)
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, misfitf("", "%s is too large", text)
	}
	return n, nil
}

var sizeForm = regexp.MustCompile(`^(0|[1-9][0-9]*) ?([A-Za-z]*)$`)

// parseSize reads a number of bytes. k, m and g are powers of 1024, as in nginx.
func parseSize(text string) (int64, *misfit) {
	m := sizeForm.FindStringSubmatch(text)
	if m == nil {
		return 0, misfitf("", "%q is not a size: write bytes, or a number with KiB, MiB or GiB", text)
	}
	shift := 0
	switch strings.ToLower(m[2]) {
	case "", "b":
	case "k", "kib":
		shift = 10
	case "m", "mib":
		shift = 20
	case "g", "gib":
		shift = 30
	case "kb", "mb", "gb":
		return 0, misfitf(m[1]+strings.ToUpper(m[2][:1])+"iB", "%q may mean powers of 1000 or of 1024", text)
	default:
		return 0, misfitf("", "%q is not a size: the suffixes are KiB, MiB and GiB (or k, m, g)", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil || n > (1<<63-1)>>shift {
		return 0, misfitf("", "%s is too large", text)
	}
	return n << shift, nil
}

func formatSize(n int64) string {
	for _, s := range []struct {
		shift  int
		suffix string
	}{{30, "GiB"}, {20, "MiB"}, {10, "KiB"}} {
		if n != 0 && n&(1<<s.shift-1) == 0 {
			return strconv.FormatInt(n>>s.shift, 10) + s.suffix
		}
	}
	return strconv.FormatInt(n, 10)
}

// parseDuration reads a duration with its unit. A bare number is refused: it is
// seconds to one reader and milliseconds to the next.
func parseDuration(text string) (time.Duration, *misfit) {
	if digits.MatchString(text) {
		return 0, misfitf(text+"s", "%q has no unit", text)
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, misfitf("", "%q is not a duration: write a number and a unit, such as 100ms, 5s, 10m or 1h30m", text)
	}
	if d < 0 {
		return 0, misfitf("", "%q is negative", text)
	}
	return d, nil
}

// formatDuration writes 24h and 50us, where Duration.String has 24h0m0s and 50µs.
func formatDuration(d time.Duration) string {
	s := strings.Replace(d.String(), "µ", "u", 1)
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func parsePorts(text string) (PortRange, *misfit) {
	first, last, found := strings.Cut(text, "-")
	a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
	b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
	if !found || errA != nil || errB != nil {
		return PortRange{}, misfitf("", "%q is not a range of ports: write FIRST-LAST, such as 10000-29999", text)
	}
	if a > b {
		return PortRange{}, misfitf(fmt.Sprintf("%d-%d", b, a), "the range %s ends before it begins", text)
	}
	return PortRange{First: uint16(a), Last: uint16(b)}, nil
}

var namedPort = regexp.MustCompile(`^([A-Za-z0-9._-]*[A-Za-z][A-Za-z0-9._-]*)(:[0-9]+)?$`)

// parseAddress reads an IP address and a port.
func parseAddress(text string) (netip.AddrPort, *misfit) {
	a, err := netip.ParseAddrPort(text)
	if err == nil {
		switch {
		case a.Addr().Zone() != "":
			return a, misfitf("", "%q has a zone: addresses of one link cannot be used", text)
		case a.Addr().Is4In6():
			plain := netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			return a, misfitf(plain.String(), "%q is an IPv4 address in IPv6 form", text)
		case a.Addr().IsMulticast():
			return a, misfitf("", "%q is a multicast address", text)
		case a.Port() == 0:
			return a, misfitf("", "%q has port 0: write a port from 1 to 65535", text)
		}
		return a, nil
	}
	if port, ok := strings.CutPrefix(text, ":"); ok && digits.MatchString(port) {
		return a, misfitf("", "%q has no address: write 0.0.0.0%[1]s for all IPv4 addresses, \"[::]%[1]s\" for all IPv6 addresses", text)
	}
	if ip, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		if ip.Is6() {
			return a, misfitf("", "%q has no port: write it as \"[%s]:80\"", text, ip)
		}
		return a, misfitf("", "%q has no port: write it as %s:80", text, ip)
	}
	if i := strings.LastIndexByte(text, ':'); i > 0 && digits.MatchString(text[i+1:]) {
		if _, err := netip.ParseAddr(strings.Trim(text[:i], "[]")); err == nil {
			return a, misfitf("", "%q has port %s: write a port from 1 to 65535", text, text[i+1:])
		}
	}
	if namedPort.MatchString(text) {
		return a, misfitf("", "%q is a name, and names are not resolved: write an IP address and a port", text)
	}
	return a, misfitf("", "%q is not an IP address with a port, such as 192.0.2.1:80 or \"[2001:db8::1]:80\"", text)
}

// parseInterface checks a name as the kernel's dev_valid_name does.
func parseInterface(text string) (string, *misfit) {
	if text == "" || len(text) > 15 || text == "." || text == ".." || strings.ContainsAny(text, "/: \t\n\v\f\r\x00") {
		return "", misfitf("", "%q is not an interface name: these have 1 to 15 characters, none of them a slash, a colon or a space", text)
	}
	return text, nil
}

var hostForm = regexp.MustCompile(`^(\*\.)?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*$`)

// parseHost reads a host of a route and returns it in lower case.
func parseHost(text string) (string, *misfit) {
	host := strings.ToLower(strings.TrimSuffix(text, "."))
	if hostForm.MatchString(host) && len(host) <= 255 {
		return host, nil
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		if ip, err := netip.ParseAddr(strings.TrimSuffix(inner, "]")); err == nil && ip.Is6() && strings.HasSuffix(host, "]") {
			return "[" + ip.String() + "]", nil
		}
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.Is6() {
		return "", misfitf(fmt.Sprintf("%q", "["+ip.String()+"]"), "%q is an IPv6 address without brackets", text)
	}
	if name, port, ok := strings.Cut(host, ":"); ok && digits.MatchString(port) {
		return "", misfitf(name, "%q has a port: the port is the listener's", text)
	}
	if strings.Contains(host, "*") {
		return "", misfitf("", "%q is not a host: a star stands at the beginning only, as in \"*.example.org\"", text)
	}
	return "", misfitf("", "%q is not a host: write a name, an address or \"*.example.org\"", text)
}

// parsePath reads a path prefix of a route.
func parsePath(text string) (string, *misfit) {
	switch {
	case text == "" || text[0] != '/':
		return "", misfitf("/"+text, "%q does not begin with a slash", text)
	case strings.ContainsAny(text, "?#"):
		return "", misfitf("", "%q has a query or a fragment: only the path is compared", text)
	}
	for _, c := range []byte(text) {
		// RFC 3986 3.3: a request target has nothing else, so it could never match.
		if c <= ' ' || c >= 0x7f {
			return "", misfitf("", "%q has characters that a request target never has: write them as %%XX", text)
		}
	}
	return text, nil
}

// RFC 9110 7.8: a token, and another one for the version.
var protocolForm = regexp.MustCompile("^[a-z0-9!#$%&'*+.^_`|~-]+(/[a-z0-9!#$%&'*+.^_`|~-]+)?$")

// parseProtocol reads the name of a protocol to upgrade to and returns it in lower
// case.
func parseProtocol(text string) (string, *misfit) {
	name := strings.ToLower(text)
	switch {
	case !protocolForm.MatchString(name):
		return "", misfitf("", "%q is not a protocol: write a name such as websocket, or a name, a slash and a version", text)
	case name == "h2c" || strings.HasPrefix(name, "http/"):
		return "", misfitf("", "%q is HTTP again: its requests would pass without being looked at", text)
	}
	return name, nil
}
