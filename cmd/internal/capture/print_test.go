package capture

import (
	"bytes"
	"encoding/hex"
	"regexp"
	"strings"
	"testing"

	"ringroad/stack"
)

func TestLinesSayWhatFramesAre(t *testing.T) {
	const ethernet = "020000000001020000000002"
	const syn = "9c400050 00000001 00000000 5002faf0 00000000"
	for _, c := range []struct{ frame, want string }{
		{ethernet + "0800 45000028 00004000 40060000 0a010002 0a010001" + syn, "IP 10.1.0.2:40000 > 10.1.0.1:80: Flags [S], seq 1, win 64240, length 0"},
		// Padding of the wire is no payload.
		{ethernet + "0800 4500002a 00004000 40060000 0a010002 0a010001 9c400050 00000001 00000002 50180001 00000000 4142 00000000", "Flags [P.], seq 1, ack 2, win 1, length 2"},
		{ethernet + "8100 0000 0800 45000028 00004000 40060000 0a010002 0a010001" + syn, "Flags [S], seq 1"},
		{ethernet + "86dd 60000000 0014 06 40 fd000001000000000000000000000002 fd000001000000000000000000000001" + syn, "IP6 [fd00:1::2]:40000 > [fd00:1::1]:80: Flags [S], seq 1, win 64240, length 0"},
		{ethernet + "0800 45000028 00000005 40060000 0a010002 0a010001" + syn, "IP 10.1.0.2 > 10.1.0.1: fragment at 40, 20 bytes"},
		{ethernet + "0800 4500001c 00000000 40010000 0a010002 0a010001 0304000000000000", "IP 10.1.0.2 > 10.1.0.1: ICMP type 3, code 4, length 8"},
		{ethernet + "0800 4f000028 00004000 40060000 0a010002 0a010001", "malformed"},
		{ethernet + "0800 45000028 00004000 40060000 0a010002 0a010001 9c40", "IP 10.1.0.2 > 10.1.0.1: protocol 6, length 20"},
		{ethernet + "0806 0001", "ethertype 0x0806, 2 bytes"},
		{"0200", "2 bytes"},
	} {
		frame, err := hex.DecodeString(strings.ReplaceAll(c.frame, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if got := describe(frame); !strings.Contains(got, c.want) {
			t.Errorf("%s\n got  %s\n want %s", c.frame, got, c.want)
		}
		for n := range frame { // whatever was kept
			describe(frame[:n])
		}
	}
}

func TestPrinterPrintsALineForEachFrame(t *testing.T) {
	s := newSession(t, Options{}, 1)
	tap := tapOn(t, s, 0)
	file := captured(t, s, func() {
		tap.Received(0, 1, make([]byte, 9), stack.Fate(1))
		tap.Sent(1, make([]byte, 5))
		s.Stop()
	})
	var b bytes.Buffer
	p := NewPrinter(&b)
	if _, err := Copy(p, bytes.NewReader(file), nil); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	want := `^\d\d:\d\d:\d\d\.\d{6} e0 queue 2 In  9 bytes \(worker 0, handed over to worker 1\)
\d\d:\d\d:\d\d\.\d{6} e1 queue 0 Out 5 bytes \(worker 0\)
$`
	if !regexp.MustCompile(want).MatchString(b.String()) {
		t.Errorf("printed:\n%s", b.String())
	}
}
