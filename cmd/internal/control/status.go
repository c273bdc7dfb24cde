package control

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"ringroad/dataplane"
)

// DefaultPath is where the socket is unless --control says otherwise.
const DefaultPath = "/run/ringroad/control.sock"

// State says what a process is about.
type State string

// The states of the master. Those of a worker are the master's to name.
const (
	StateRunning   State = "running"
	StateReloading State = "reloading"
	StateDraining  State = "draining" // accepts nothing more, finishes exchanges
	StateStopping  State = "stopping"
)

// Status is one reading of what runs.
type Status struct {
	Version       string        `json:"version"`
	PID           int           `json:"pid"`
	Started       time.Time     `json:"started"`
	Uptime        Seconds       `json:"uptime"`
	State         State         `json:"state"`
	DrainTimeout  Seconds       `json:"drain_timeout"` // how long quit may take
	Configuration Configuration `json:"configuration"`
	Interfaces    []Interface   `json:"interfaces"`
	Listeners     []string      `json:"listeners"` // addresses
	Upstreams     []Upstream    `json:"upstreams"`
	Workers       []Worker      `json:"workers"`
	Filter        *Filter       `json:"filter,omitempty"` // nil: there is none
}

// Filter is what the XDP program refuses, in packets since the start.
type Filter struct {
	Prefixes       int    `json:"prefixes"` // of the lists
	Denied         uint64 `json:"denied"`
	ConnectionRate uint64 `json:"connection_rate"`
	PacketRate     uint64 `json:"packet_rate"`
}

// String is for people.
func (f *Filter) String() string {
	return fmt.Sprintf("%d prefixes; refused: %d packets denied, %d SYNs and %d packets over a limit", f.Prefixes, f.Denied, f.ConnectionRate, f.PacketRate)
}

// Refused is all that was.
func (f *Filter) Refused() uint64 { return f.Denied + f.ConnectionRate + f.PacketRate }

// Configuration says where the one in use came from.
type Configuration struct {
	File       string    `json:"file"`       // "": flags
	Generation int       `json:"generation"` // 1 at start, one more with each reload that succeeded
	Loaded     time.Time `json:"loaded"`     // when this generation was
	Failed     time.Time `json:"failed,omitzero"`
	Error      string    `json:"error,omitempty"` // why the last reload failed; "" when it did not
}

// Interface is a network interface that is served.
type Interface struct {
	Name      string         `json:"name"`
	State     LinkState      `json:"state"`
	Since     time.Time      `json:"since,omitzero"` // of the state: when it began to work, or ceased to
	MTU       int            `json:"mtu"`
	Addresses []netip.Prefix `json:"addresses"`
	Driver    string         `json:"driver"`
	Mode      string         `json:"mode"` // native or generic
	ZeroCopy  bool           `json:"zero_copy"`
	Reason    string         `json:"zero_copy_reason"` // why it is, or is not
	Queues    int            `json:"queues"`           // receive queues

	// TXChecksum says that checksums of what is sent are left to the interface.
	TXChecksum       bool      `json:"tx_checksum"`
	TXChecksumReason string    `json:"tx_checksum_reason"` // why they are, or are not
	SYNCookiesByXDP  bool      `json:"syn_cookies_by_xdp"` // a SYN is answered there while a SYN queue is full
	SYNCookies       uint64    `json:"syn_cookies"`        // that were answered so
	Features         *Features `json:"features"`           // nil: the kernel does not tell, Linux 6.3 is needed
}

// Features are what a driver says that it can do, by the names of the kernel's
// documentation (netdev.yaml).
type Features struct {
	XDP              []string `json:"xdp"`
	RXMetadata       []string `json:"rx_metadata"`        // what a program may ask of a received frame
	TXMetadata       []string `json:"tx_metadata"`        // what a socket may ask for a frame to be sent
	ZeroCopySegments uint32   `json:"zero_copy_segments"` // descriptors for a frame; 0: unknown, or no zero-copy
}

// NewFeatures returns nil for those that are not known.
func NewFeatures(f dataplane.Features) *Features {
	if !f.Known {
		return nil
	}
	return &Features{f.XDP.Names(), f.RXMetadata.Names(), f.XSK.Names(), f.ZeroCopySegments}
}

// String is for people.
func (f *Features) String() string {
	if f == nil {
		return "not known, Linux 6.3 would tell"
	}
	list := func(names []string) string {
		if len(names) == 0 {
			return "none"
		}
		return strings.Join(names, " ")
	}
	text := fmt.Sprintf("XDP %s; RX metadata %s; TX metadata %s", list(f.XDP), list(f.RXMetadata), list(f.TXMetadata))
	if f.ZeroCopySegments > 0 {
		text += fmt.Sprintf("; zero-copy frames of up to %d descriptors", f.ZeroCopySegments)
	}
	return text
}

// LinkState says whether frames can come and go by an interface.
type LinkState string

// The states of an interface.
const (
	LinkUp        LinkState = "up"
	LinkNoCarrier LinkState = "no carrier"
	LinkDown      LinkState = "down" // administratively
)

// Upstream is a pool of backends.
type Upstream struct {
	Name    string   `json:"name"`
	Servers []string `json:"servers"`
}

// Worker is a worker process.
type Worker struct {
	Index      int       `json:"index"`
	PID        int       `json:"pid"` // 0: it does not run
	CPU        int       `json:"cpu"` // -1: any
	Queues     []int     `json:"queues"`
	State      State     `json:"state"`
	Started    time.Time `json:"started"`
	Restarts   int       `json:"restarts"`
	Clients    uint64    `json:"clients"`  // connections open
	Backends   uint64    `json:"backends"` // connections open, idle ones included
	Requests   uint64    `json:"requests"` // since this process started, like all counts
	HandedOver uint64    `json:"handed_over"`
	Beat       Seconds   `json:"beat"` // age of the loop's last sign of life
}

// Seconds is a duration that JSON has as a number of seconds.
type Seconds time.Duration

// String is that of time.Duration.
func (s Seconds) String() string { return time.Duration(s).String() }

// MarshalJSON implements json.Marshaler.
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON implements json.Unmarshaler.
func (s *Seconds) UnmarshalJSON(b []byte) error {
	var f float64
	if err := json.Unmarshal(b, &f); err != nil {
		return err
	}
	*s = Seconds(f * float64(time.Second))
	return nil
}
