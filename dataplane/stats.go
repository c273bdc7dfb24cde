package dataplane

import (
	"fmt"
	"reflect"
	"sync"

	"golang.org/x/sys/unix"
)

// Stats counts what a queue did. The loop that owns the queue writes it without atomics, so a reader elsewhere may
// see fields of neighbouring moments. Every field is a uint64, so that the struct can be laid into shared memory;
// its tags name it, and [StatFields] lists them. Counters only grow; high-water marks never fall.
type Stats struct {
	RXFrames    uint64 `name:"rx_frames" unit:"frames" kind:"counter" help:"Frames received."`
	RXBytes     uint64 `name:"rx_bytes" unit:"bytes" kind:"counter" help:"Bytes received, Ethernet headers included."`
	RXOversized uint64 `name:"rx_oversized" unit:"frames" kind:"counter" help:"Frames dropped because they were larger than the MTU (jumbo frames only; others are dropped by the kernel)."`
	RXInvalid   uint64 `name:"rx_invalid" unit:"descriptors" kind:"counter" help:"Descriptors dropped because they named a frame that the driver did not have, or more bytes than a frame holds: a fault of the driver."`
	RXBatches   uint64 `name:"rx_batches" unit:"batches" kind:"counter" help:"Peeks that found frames."`
	Backlogged  uint64 `name:"backlogged" unit:"frames" kind:"counter" help:"Packets copied into the backlog because the RX ring was crowded."`
	BacklogFull uint64 `name:"backlog_full" unit:"events" kind:"counter" help:"Times the backlog had no room for a packet of a crowded RX ring, which stayed there."`
	FillWakeups uint64 `name:"fill_wakeups" unit:"calls" kind:"counter" help:"System calls made because the driver had run out of frames to receive into."`
	BusyPolls   uint64 `name:"busy_polls" unit:"calls" kind:"counter" help:"System calls made to poll the driver (busy_poll)."`

	TXFrames      uint64 `name:"tx_frames" unit:"frames" kind:"counter" help:"Frames submitted for sending."`
	TXBytes       uint64 `name:"tx_bytes" unit:"bytes" kind:"counter" help:"Bytes submitted for sending, Ethernet headers included."`
	TXCompletions uint64 `name:"tx_completions" unit:"frames" kind:"counter" help:"Frames the kernel gave back after sending, or after dropping them."`
	TXPartial     uint64 `name:"tx_partial_checksums" unit:"frames" kind:"counter" help:"Frames submitted whose checksum was left to the interface (tx_checksum)."`
	TXRefused     uint64 `name:"tx_refused" unit:"frames" kind:"counter" help:"Frames not sent because their length did not fit the frame or the MTU."`
	TXNoFrame     uint64 `name:"tx_no_frame" unit:"events" kind:"counter" help:"Reservations refused because every TX frame was in use (back-pressure)."`

	Kicks         uint64 `name:"kicks" unit:"events" kind:"counter" help:"Kicks that found descriptors the kernel had not taken."`
	KickCalls     uint64 `name:"kick_calls" unit:"calls" kind:"counter" help:"System calls made by kicks."`
	KickSaved     uint64 `name:"kick_saved" unit:"events" kind:"counter" help:"Kicks that needed no system call because the driver was at it (need-wakeup flag clear)."`
	KickLeft      uint64 `name:"kick_left" unit:"events" kind:"counter" help:"Kicks of many frames left to a thread beside the loop (copy mode, with a processor to spare)."`
	KickAgain     uint64 `name:"kick_again" unit:"calls" kind:"counter" help:"Kick calls answered EAGAIN: batch limit, device queue or socket buffer full."`
	KickBusy      uint64 `name:"kick_busy" unit:"calls" kind:"counter" help:"Kick calls answered EBUSY: the device dropped a frame."`
	KickNoBuffers uint64 `name:"kick_no_buffers" unit:"calls" kind:"counter" help:"Kick calls answered ENOBUFS or ENOMEM."`
	KickLinkDown  uint64 `name:"kick_link_down" unit:"calls" kind:"counter" help:"Kick calls answered by a link that was down."`
	KickStalled   uint64 `name:"kick_stalled" unit:"events" kind:"counter" help:"Kicks that left descriptors behind because the kernel took no more; a later kick sends them."`

	RXRingHighWater   uint64 `name:"rx_ring_high_water" unit:"frames" kind:"gauge" help:"Most frames seen waiting on the RX ring."`
	BacklogHighWater  uint64 `name:"backlog_high_water_bytes" unit:"bytes" kind:"gauge" help:"Most bytes seen in the backlog."`
	TXRingHighWater   uint64 `name:"tx_ring_high_water" unit:"frames" kind:"gauge" help:"Most descriptors seen waiting on the TX ring at a kick."`
	TXFramesHighWater uint64 `name:"tx_frames_high_water" unit:"frames" kind:"gauge" help:"Most TX frames in use at a time."`

	CompletionRingHighWater uint64 `name:"completion_ring_high_water" unit:"frames" kind:"gauge" help:"Most descriptors found on the completion ring at a time."`
}

// KernelStats is what the kernel counted on the socket (XDP_STATISTICS). The counters start at zero when the socket
// is made and only grow.
type KernelStats struct {
	RXDropped        uint64 `name:"rx_dropped" unit:"frames" kind:"counter" help:"Frames dropped because they are larger than a frame or, in copy mode, because the fill ring was empty."`
	RXInvalidDescs   uint64 `name:"rx_invalid_descs" unit:"descriptors" kind:"counter" help:"Fill ring entries the kernel refused."`
	TXInvalidDescs   uint64 `name:"tx_invalid_descs" unit:"descriptors" kind:"counter" help:"TX ring entries the kernel refused."`
	RXRingFull       uint64 `name:"rx_ring_full" unit:"frames" kind:"counter" help:"Frames dropped because the RX ring was full."`
	FillRingEmpty    uint64 `name:"fill_ring_empty" unit:"events" kind:"counter" help:"Times the kernel found no frame to receive into."`
	TXRingEmptyDescs uint64 `name:"tx_ring_empty" unit:"events" kind:"counter" help:"Times the kernel found the TX ring empty."`
}

func kernelStatsFrom(s unix.XDPStatistics) KernelStats {
	return KernelStats{
		RXDropped:        s.Rx_dropped,
		RXInvalidDescs:   s.Rx_invalid_descs,
		TXInvalidDescs:   s.Tx_invalid_descs,
		RXRingFull:       s.Rx_ring_full,
		FillRingEmpty:    s.Rx_fill_ring_empty_descs,
		TXRingEmptyDescs: s.Tx_ring_empty_descs,
	}
}

// Levels is the account of a queue's frames at one moment: Free + Fill + RX + TX = Frames, always.
type Levels struct {
	Frames int // all frames of the UMEM
	Free   int // on the TX free list
	Fill   int // with the kernel, to receive into
	RX     int // taken off the RX ring by the loop and not yet released
	TX     int // reserved, on the TX ring, with the NIC, or on the completion ring

	// Entries on the rings as published. FillRing and RXRing are part of Fill (what is missing is with the NIC),
	// TXRing and CompletionRing of TX; the kernel moves them while they are read.
	FillRing, RXRing, TXRing, CompletionRing int
	// RingEntries is the capacity of each of the four rings.
	RingEntries int
	// FrameBytes is the size of a frame.
	FrameBytes int
	// Backlog is how many bytes of the backlog are in use, BacklogBytes its capacity.
	Backlog, BacklogBytes int
}

// Sum is the number of frames accounted for: Frames, unless one leaked.
func (l Levels) Sum() int { return l.Free + l.Fill + l.RX + l.TX }

// StatField describes one field of a statistics struct, in the order of the struct.
type StatField struct {
	Name, Unit, Kind, Help string // Kind is "counter", "gauge" or "histogram"
}

// statFields are the lists that StatFields made, by type: parsing tags took a tenth of a scrape.
var statFields sync.Map

// StatFields lists the fields of a statistics struct, or of the one pointed to, which are all tagged as in [Stats], and
// a uint64 or, with the kind "histogram", a [Histogram]. The list is shared: it is to be read only.
func StatFields(statistics any) []StatField {
	t := reflect.TypeOf(statistics)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if known, ok := statFields.Load(t); ok {
		return known.([]StatField)
	}
	fields := make([]StatField, t.NumField())
	for i := range fields {
		f := t.Field(i)
		want := reflect.TypeFor[uint64]()
		if f.Tag.Get("kind") == "histogram" {
			want = reflect.TypeFor[Histogram]()
		}
		if f.Type != want || f.Tag.Get("name") == "" {
			panic(fmt.Sprintf("dataplane: %v.%s is not a tagged %v", t, f.Name, want))
		}
		fields[i] = StatField{Name: f.Tag.Get("name"), Unit: f.Tag.Get("unit"), Kind: f.Tag.Get("kind"), Help: f.Tag.Get("help")}
	}
	statFields.Store(t, fields)
	return fields
}
