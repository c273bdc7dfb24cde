package dataplane

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestQueueOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		in     QueueOptions
		rx, tx int // 0: refused
	}{
		"defaults":            {QueueOptions{}, 2867, 717},
		"small rings":         {QueueOptions{RingEntries: 128}, 89, 23},
		"smallest rings":      {QueueOptions{RingEntries: 64}, 51, 13},
		"twice the entries":   {QueueOptions{RingEntries: 1024, Frames: 2048}, 1024, 1024},
		"few frames":          {QueueOptions{RingEntries: 1024, Frames: 600}, 480, 120},
		"large frames":        {QueueOptions{FrameBytes: 4096}, 2867, 717},
		"no power of two":     {in: QueueOptions{RingEntries: 1000}},
		"too many entries":    {in: QueueOptions{RingEntries: 1 << 16}},
		"odd frame size":      {in: QueueOptions{FrameBytes: 3000}},
		"frames beyond rings": {in: QueueOptions{RingEntries: 1024, Frames: 2049}},
		"negative frames":     {in: QueueOptions{Frames: -1}},
		"poll budget":         {QueueOptions{BusyPoll: 64}, 2867, 717},
		"large poll budget":   {in: QueueOptions{BusyPoll: 1 << 16}},
		"small backlog":       {in: QueueOptions{Backlog: 1 << 10}},
		"negative queue":      {in: QueueOptions{Queue: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := tc.in.withDefaults()
			if tc.rx == 0 {
				if !errors.Is(err, ErrOptions) {
					t.Fatalf("error %v, want ErrOptions", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if rx, tx := o.rxFrames(), o.Frames-o.rxFrames(); rx != tc.rx || tx != tc.tx || rx > o.RingEntries || tx > o.RingEntries {
				t.Errorf("%d frames to receive, %d to send, want %d, %d", rx, tx, tc.rx, tc.tx)
			}
		})
	}
}

func TestErrnoIsRecoveredFromText(t *testing.T) {
	for _, errno := range socketErrnos {
		if err := withErrno(errors.New("syscall.Bind SockaddrXDP failed: " + errno.Error())); !errors.Is(err, errno) {
			t.Errorf("%v is not %v", err, errno)
		}
	}
	plain := errors.New("something else")
	if err := withErrno(plain); err != plain {
		t.Errorf("became %v", err)
	}
}

func TestSocketMappingsAreTellingAFXDPApart(t *testing.T) {
	const maps = `55d0c0a00000-55d0c0a01000 r--p 00000000 fe:00 131 /usr/bin/x
7f0000000000-7f0000001000 rw-s 00000000 00:08 77                       socket:[77]
7f1000000000-7f1000002000 rw-s 100000000 00:08 42                      socket:[42]
7f2000000000-7f2000003000 rw-s 180000000 00:08 42                      socket:[42]
7f3000000000-7f3000001000 rw-s 00000000 00:08 42                       socket:[42]
7ffd00000000-7ffd00001000 r-xp 00000000 00:00 0                        [vdso]
`
	got, err := parseSocketMappings(strings.NewReader(maps))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || len(got[42]) != 3 || got[42][1] != (mapping{0x7f2000000000, 0x7f2000003000, 0x180000000}) {
		t.Errorf("mappings %v, want the three of inode 42", got)
	}
}

func TestStatFieldsNameEveryCounter(t *testing.T) {
	for _, s := range []any{Stats{}, KernelStats{}, HandoverStats{}} {
		seen := map[string]bool{}
		for _, f := range StatFields(s) {
			if f.Unit == "" || f.Help == "" || f.Kind != "counter" && f.Kind != "gauge" || seen[f.Name] {
				t.Errorf("%T: field %+v is incomplete or double", s, f)
			}
			seen[f.Name] = true
		}
	}
	got := kernelStatsFrom(unix.XDPStatistics{Rx_dropped: 1, Rx_invalid_descs: 2, Tx_invalid_descs: 3, Rx_ring_full: 4, Rx_fill_ring_empty_descs: 5, Tx_ring_empty_descs: 6})
	if got != (KernelStats{1, 2, 3, 4, 5, 6}) {
		t.Errorf("kernel's counters became %+v", got)
	}
}
