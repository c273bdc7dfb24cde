package pcapfilter

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// packet describes a frame.
type packet struct {
	from, to   string // with ports
	protocol   byte
	flags      byte // of TCP
	options    int  // bytes of IPv4 options
	fragment   uint16
	data       string
	ethernetTo [6]byte
}

// frame builds a frame without checksums.
func (p packet) frame() []byte {
	from, to := netip.MustParseAddrPort(p.from), netip.MustParseAddrPort(p.to)
	f := append(p.ethernetTo[:], 2, 0, 0, 0, 0, 1)
	var ip []byte
	if from.Addr().Is4() {
		ip = make([]byte, 20+p.options)
		ip[0], ip[9] = 0x45+byte(p.options/4), p.protocol
		binary.BigEndian.PutUint16(ip[6:], p.fragment)
		copy(ip[12:], from.Addr().AsSlice())
		copy(ip[16:], to.Addr().AsSlice())
		f = append(f, 0x08, 0)
	} else {
		ip = make([]byte, 40)
		ip[0], ip[6] = 0x60, p.protocol
		copy(ip[8:], from.Addr().AsSlice())
		copy(ip[24:], to.Addr().AsSlice())
		f = append(f, 0x86, 0xdd)
	}
	transport := make([]byte, 20)
	binary.BigEndian.PutUint16(transport, from.Port())
	binary.BigEndian.PutUint16(transport[2:], to.Port())
	transport[12], transport[13] = 0x50, p.flags
	return append(append(append(f, ip...), transport...), p.data...)
}

const syn, ack = 2, 16

// samples are frames by name.
var samples = map[string][]byte{
	"syn":      packet{from: "10.1.0.2:40000", to: "10.1.0.1:80", protocol: 6, flags: syn}.frame(),
	"synack":   packet{from: "10.1.0.1:80", to: "10.1.0.2:40000", protocol: 6, flags: syn | ack}.frame(),
	"get":      packet{from: "10.1.0.2:40000", to: "10.1.0.1:80", protocol: 6, flags: ack, options: 8, data: "GET / HTTP/1.1"}.frame(),
	"backend":  packet{from: "10.2.0.1:20001", to: "10.2.0.2:8080", protocol: 6, flags: ack, ethernetTo: [6]byte{2, 0, 0, 0, 0, 9}}.frame(),
	"get6":     packet{from: "[fd00:1::2]:40001", to: "[fd00:1::1]:80", protocol: 6, flags: ack, data: "GET / HTTP/1.1"}.frame(),
	"syn6":     packet{from: "[fd00:1::2]:40001", to: "[fd00:1::1]:443", protocol: 6, flags: syn}.frame(),
	"udp":      packet{from: "10.1.0.2:53", to: "10.1.0.1:80", protocol: 17}.frame(),
	"icmp":     packet{from: "10.9.0.2:772", to: "10.1.0.1:0", protocol: 1}.frame(), // type 3, code 4
	"fragment": packet{from: "10.1.0.2:80", to: "10.1.0.1:80", protocol: 6, fragment: 100}.frame(),
	"short":    {1, 2, 3},
}

const everyTCP = "syn synack get backend get6 syn6 fragment"

func TestFilters(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{"ip", "syn synack get backend udp icmp fragment"},
		{"ip6", "get6 syn6"},
		{"tcp", everyTCP},
		{"ip6 and tcp", "get6 syn6"},
		{"udp", "udp"}, {"icmp", "icmp"}, {"icmp6", ""}, {"arp", ""},
		{"proto 17", "udp"}, {"ip proto tcp", "syn synack get backend fragment"}, {"ip6 proto 6", "get6 syn6"},
		{"host 10.1.0.2", "syn synack get udp fragment"},
		{"src host 10.1.0.2", "syn get udp fragment"},
		{"dst 10.1.0.2", "synack"},
		{"10.1.0.2", "syn synack get udp fragment"},
		{"src and dst host 10.1.0.2", ""},
		{"src or dst host 10.2.0.2", "backend"},
		{"host fd00:1::2", "get6 syn6"}, {"dst host fd00:1::2", ""},
		{"net 10.1.0.0/16", "syn synack get udp icmp fragment"},
		{"src net 10.0.0.0/9 and not net 10.1.0.0/16", "backend"},
		{"net fd00::/16", "get6 syn6"}, {"net fd00:2::/32", ""}, {"net fd00:1::/33", "get6 syn6"}, {"net ::/0", "get6 syn6"},
		{"net 0.0.0.0/0", "syn synack get backend udp icmp fragment"},
		{"port 80", "syn synack get get6 udp"},
		{"tcp port 80", "syn synack get get6"},
		{"tcp dst port http", "syn get get6"},
		{"ip6 port 80", "get6"}, {"ip port 80", "syn synack get udp"},
		{"port 443 or 8080", "syn6 backend"},
		{"tcp port 80 or 53", "syn synack get get6"},
		{"port 80 and host 10.1.0.2 or 10.2.0.2", "syn synack get udp backend"},
		{"portrange 400-9000", "backend syn6"}, {"dst portrange 70-90", "syn get get6 udp"},
		// Equal precedence, from the left.
		{"udp or tcp and port 8080", "backend"},
		{"udp or (tcp and port 8080)", "udp backend"},
		{"not tcp", "udp icmp"}, {"! tcp && !udp", "icmp"}, {"not (tcp or udp or icmp)", ""},
		{"tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn", "syn syn6"},
		{"tcp[tcpflags] & tcp-syn != 0", "syn synack syn6"},
		{"tcp[13] = 2", "syn syn6"}, {"ip[9] = 6 and tcp[13] = 2", "syn"},
		{"tcp[2:2] = 80", "syn get get6"}, {"tcp[0:4] = 0x9c400050", "syn get"},
		// The classic for the method of a request.
		{"tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "get get6"},
		{"icmp[icmptype] = 3 and icmp[icmpcode] = 4", "icmp"},
		{"ip[0] & 0xf > 5", "get"}, {"ip[0] & 0xf != 5 and tcp", "get"},
		{"ip[6:2] & 0x1fff != 0", "fragment"},
		{"ether[12:2] = 0x86dd", "get6 syn6"}, {"ether host 02:00:00:00:00:09", "backend"}, {"ether src 02:00:00:00:00:09", ""},
		{"ether proto 0x800 and udp", "udp"}, {"ether proto ip6", "get6 syn6"},
		{"less 10", "short"}, {"greater 80", "get6"}, {"len < 10", "short"}, {"len - 10 * 4 = 14", "syn synack backend udp icmp fragment"},
		{"tcp[0:2] > tcp[2:2] and tcp[2:2] < 100", "syn get get6"},
		{"(tcp[13] & 2) / 2 + 1 = 2 && ip", "syn synack"},
		{"ip[9] ^ 6 = 0 and tcp[13] % 16 = 2", "syn synack"},
	} {
		code, err := Compile(c.expression)
		if err != nil {
			t.Errorf("%s: %v", c.expression, err)
			continue
		}
		for name, frame := range samples {
			want := false
			for w := range strings.FieldsSeq(c.want) {
				want = want || w == name
			}
			if got := run(t, code, frame); got != want {
				t.Errorf("%s: %s: matches %v, want %v", c.expression, name, got, want)
			}
		}
	}
}

// TestFiltersMeanWhatTcpdumpMeans has tcpdump compile the same expressions.
func TestFiltersMeanWhatTcpdumpMeans(t *testing.T) {
	tcpdump, err := exec.LookPath("tcpdump")
	if err != nil {
		t.Skip("tcpdump is not installed")
	}
	// An empty file tells it that frames are Ethernet's.
	empty := filepath.Join(t.TempDir(), "empty.pcap")
	header := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	for _, v := range []uint32{2 | 4<<16, 0, 0, 1 << 18, 1} {
		header = binary.LittleEndian.AppendUint32(header, v)
	}
	if err := os.WriteFile(empty, header, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, expression := range []string{
		"ip", "tcp", "udp", "icmp", "icmp6", "proto 17", "ip proto \\tcp", "ip6 proto 6",
		"host 10.1.0.2", "dst 10.1.0.2", "src and dst host 10.1.0.2", "src or dst host 10.2.0.2", "host fd00:1::2",
		"net 10.1.0.0/16", "src net 10.0.0.0/9 and not net 10.1.0.0/16", "net fd00::/16", "net fd00:1::/33",
		"port 80", "tcp port 80", "tcp dst port http", "ip6 and port 80", "port 443 or 8080", "tcp port 80 or 53",
		"port 80 and host 10.1.0.2 or 10.2.0.2", "portrange 400-9000", "udp or tcp and port 8080", "udp or (tcp and port 8080)",
		"not tcp", "not (tcp or udp or icmp)", "not port 80", "not host 10.1.0.2",
		"ip[9] = 6 and tcp[13] = 2", "icmp[icmptype] = 3 and icmp[icmpcode] = 4", "ip[0] & 0xf > 5", "ip[6:2] & 0x1fff != 0",
		"ip and tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "ip and (tcp[13] & 2) / 2 + 1 = 2", "ether[12:2] = 0x86dd",
		"ether host 02:00:00:00:00:09", "ether src 02:00:00:00:00:09", "less 74", "greater 75", "len - 10 * 4 = 14",
		"ip and tcp[0:2] > tcp[2:2]", "ip[9] ^ 6 = 0 and tcp[13] % 16 = 2",
	} {
		out, err := exec.Command(tcpdump, "-r", empty, "-ddd", expression).Output()
		if err != nil {
			t.Errorf("%s: tcpdump: %v", expression, err)
			continue
		}
		var raw []bpf.RawInstruction
		for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			var r bpf.RawInstruction
			if i == 0 {
				continue // how many follow
			}
			if _, err := fmt.Sscan(line, &r.Op, &r.Jt, &r.Jf, &r.K); err != nil {
				t.Fatalf("%s: %q: %v", expression, line, err)
			}
			raw = append(raw, r)
		}
		theirs, _ := bpf.Disassemble(raw)
		ours, err := Compile(strings.ReplaceAll(expression, "\\", ""))
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		for name, frame := range samples {
			if got, want := run(t, ours, frame), run(t, theirs, frame); got != want {
				t.Errorf("%s: %s: matches %v, for tcpdump %v", expression, name, got, want)
			}
		}
	}
}

// run runs code as a worker does, after its way there.
func run(t testing.TB, code []bpf.Instruction, frame []byte) bool {
	raw, err := bpf.Assemble(code)
	if err != nil {
		t.Fatal(err)
	}
	code, all := bpf.Disassemble(raw)
	if !all {
		t.Fatal("the program cannot be read back")
	}
	vm, err := bpf.NewVM(code)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(frame)
	if err != nil {
		t.Fatal(err)
	}
	return n != 0
}

func TestLongFiltersJumpFar(t *testing.T) {
	var terms []string
	for i := range 200 {
		terms = append(terms, "host 10.3."+netip.AddrFrom4([4]byte{0, 0, 0, byte(i)}).String()[6:]+".1")
	}
	expression := strings.Join(terms, " or ")
	for e, want := range map[string]bool{
		expression: false, "not (" + expression + ")": true, expression + " or host 10.1.0.2": true, "host 10.1.0.2 or " + expression: true,
	} {
		code, err := Compile(e)
		if err != nil {
			t.Fatal(err)
		}
		if got := run(t, code, samples["syn"]); got != want {
			t.Errorf("%d terms: %v, want %v", len(terms), got, want)
		}
	}
	if _, err := Compile(strings.Repeat(expression+" or ", 10) + "ip"); err == nil {
		t.Error("2000 terms make a program")
	}
}

func TestMistakesAreTold(t *testing.T) {
	for _, c := range []struct{ expression, want string }{
		{"prot 80", `column 1: "prot" is not an address (names of hosts are not known), nor a keyword`},
		{"tcp port", `column 9: the end: want a condition`},
		{"port nosuchport", `column 6: "nosuchport" is not a port`},
		{"port 70000", `column 6: "70000" is not a port`},
		{"portrange 5", `want FIRST-LAST`},
		{"(port 80", `column 9: the end: want the ")" of column 1`},
		{"port 80)", `column 8: ")" is not expected here`},
		{"port 80 81", `column 9: "81" is not expected here: join conditions by and, or`},
		{"net 10.1.2.3/8", `has bits of a host: want 10.0.0.0/8`},
		{"net 10.1.2.3", `want ADDRESS/BITS`},
		{"host 10.0.0.0/8", `is a network: use net`},
		{"ip6 host 10.0.0.1", `is no address of ip6`},
		{"icmp port 80", `icmp has no ports`},
		{"tcp[1:3] = 1", `want 1, 2 or 4 bytes`},
		{"tcp[13]", `the end: want a comparison`},
		{"tcp[13 = 2", `want "]"`},
		{"tcp[13] = ", `the end is not a number`},
		{"len / 0 = 1", `not an address`},
		{"ip[0] / 0 = 1", `column 7: division by zero`},
		{"ip[0] = ip6[0]", `no frame has all these headers`},
		{"vlan 5", `"vlan" is not supported`},
		{"inbound", `use -Q in`},
		{"ether host 10.0.0.1", `not an Ethernet address`},
		{"host", `the end: want a condition`},
		{"not", `the end: want a condition`},
		{"ip proto 300", `is not a protocol`},
	} {
		_, err := Compile(c.expression)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.expression, err, c.want)
		}
	}
	if code, err := Compile("  "); code != nil || err != nil {
		t.Errorf("nothing: %v, %v", code, err)
	}
}

// FuzzCompile checks that whatever compiles is a program, which ends on any frame.
func FuzzCompile(f *testing.F) {
	for _, e := range []string{"tcp port 80 or 443", "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "not (src net fd00::/16 and less 9)", "ether host 02:00:00:00:00:01"} {
		f.Add(e)
	}
	f.Fuzz(func(t *testing.T, expression string) {
		if len(expression) > 500 {
			return
		}
		code, err := Compile(expression)
		if err != nil || code == nil {
			return
		}
		for _, frame := range samples {
			run(t, code, frame)
		}
	})
}
