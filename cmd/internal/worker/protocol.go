package worker

import (
	"net/netip"
	"os"
	"time"

	"ringroad/bpf"
	"ringroad/cmd/internal/capture"
	"ringroad/cmd/internal/sandbox"
	"ringroad/cmd/internal/trace"
	"ringroad/dataplane"
	"ringroad/proxy"
)

// Kind says what a message is.
type Kind string

// The messages of the master. Prepare, Commit and Abort make a reload: every
// worker has prepared before one commits.
const (
	MessageStart       Kind = "start"       // the first; with the descriptors of Start
	MessagePrepare     Kind = "prepare"     // answered by MessageReply
	MessageCommit      Kind = "commit"      // answered by MessageReply
	MessageAbort       Kind = "abort"       // not answered
	MessageAccessLog   Kind = "access log"  // write to the descriptor from now on; none: write nowhere
	MessageRSS         Kind = "rss"         // a NIC places flows in another way
	MessageAddresses   Kind = "addresses"   // an interface has others
	MessageCapture     Kind = "capture"     // show frames, with the descriptor of the ring; without Capture: no more; answered by MessageReply
	MessageTrace       Kind = "trace"       // follow requests, as MessageCapture; answered by MessageReply
	MessageConnections Kind = "connections" // write a survey of connections to the descriptor, and close it
	MessageProfile     Kind = "profile"     // write a profile to the descriptor, and close it
	MessageDrain       Kind = "drain"       // end when the exchanges under way have; answered by MessageReply when nothing more is accepted
	MessageStop        Kind = "stop"        // end at once
)

// The messages of a worker.
const (
	MessageReady Kind = "ready" // it serves; with the descriptors of its AF_XDP sockets, in the order of Ready.Queues
	MessageReply Kind = "reply" // to prepare, commit, capture, trace and drain; Error says what is wrong
	MessageEnd   Kind = "end"   // it cannot serve, and why: the process ends
)

// Message is what goes over a Channel.
type Message struct {
	Kind    Kind           `json:"kind"`
	Number  uint64         `json:"number,omitempty"` // of what is answered; the answer has the same: one that came too late is known by it
	Start   *Start         `json:"start,omitempty"`
	Reload  *Reload        `json:"reload,omitempty"`
	RSS     *RSS           `json:"rss,omitempty"`
	Capture *capture.Order `json:"capture,omitempty"`
	Trace   *trace.Order   `json:"trace,omitempty"`
	Ready   *Ready         `json:"ready,omitempty"`
	Error   string         `json:"error,omitempty"`

	Addresses   *Addresses   `json:"addresses,omitempty"`
	Profile     *Profile     `json:"profile,omitempty"`
	Connections *proxy.Query `json:"connections,omitempty"`
}

// Profile says what is to be profiled. Nothing is written when it cannot be.
type Profile struct {
	Name    string `json:"name"`    // CPUProfile, or one that runtime/pprof knows
	Seconds int    `json:"seconds"` // of a CPU profile
	Collect bool   `json:"collect"` // before a profile of the heap
}

// CPUProfile is the name of a profile of where the time goes.
const CPUProfile = "profile"

// Start is all that a worker needs to know. Its message has the descriptors of
// the page, of the table of clients, of the two parts of the table of open connections,
// of the handover memory and bells (with more than one worker), of the access log and
// of the CPU profile (if there is one), and of the answers of each link, in this order.
type Start struct {
	Index    int              `json:"index"`
	Workers  int              `json:"workers"`
	Master   int              `json:"master"` // process id
	Links    []Link           `json:"links"`  // in the order of the configuration
	Reload   Reload           `json:"reload"`
	CPU      int              `json:"cpu"` // to run on; -1: any
	Cookies  bpf.CookieKey    `json:"cookies"`
	Identity sandbox.Identity `json:"identity"`

	HasAccessLog bool `json:"has_access_log"`
	HasProfile   bool `json:"has_profile"`
}

// Reload is a configuration as text, which means the same in every process, with
// the files that it names: a worker cannot open any.
type Reload struct {
	Config string            `json:"config"`
	Pages  map[string][]byte `json:"pages,omitempty"`
}

// Link is one interface as a worker sees it.
type Link struct {
	dataplane.LinkInfo
	Queues    []int          `json:"queues"` // of this worker
	Addresses []netip.Prefix `json:"addresses"`
	RSS       *dataplane.RSS `json:"rss,omitempty"` // nil: flows are placed in an unknown way
}

// RSS tells how the NIC of a link places flows from now on.
type RSS struct {
	Link int            `json:"link"`
	RSS  *dataplane.RSS `json:"rss"`
}

// Addresses tells which ones the interface of a link has from now on.
type Addresses struct {
	Link      int            `json:"link"`
	Addresses []netip.Prefix `json:"addresses"`
}

// Ready tells what a worker has got.
type Ready struct {
	Queues []Queue `json:"queues"`
}

// Queue is one AF_XDP socket of a worker.
type Queue struct {
	Link     int    `json:"link"`
	Queue    int    `json:"queue"`
	ZeroCopy bool   `json:"zero_copy"`
	Reason   string `json:"reason"` // why it is, or is not

	TXChecksum       bool   `json:"tx_checksum"` // left to the interface
	TXChecksumReason string `json:"tx_checksum_reason"`
}

// files are the descriptors of a Start.
type files struct {
	page, clients, flood, flows, memory, access, profile *os.File
	bells                                                []*os.File
	answers                                              []*os.File // of each link
}

// close lets go of what has been mapped or duplicated: another worker's bell must
// not wake this one.
func (f *files) close() {
	closeAll(f.bells)
	closeAll(f.answers)
	f.page.Close()    //nolint:errcheck // it was mapped
	f.clients.Close() //nolint:errcheck // it was mapped
	f.flood.Close()   //nolint:errcheck // it was mapped
	f.flows.Close()   //nolint:errcheck // it was mapped
	if f.memory != nil {
		f.memory.Close() //nolint:errcheck // it was mapped
	}
}

// split names the descriptors that came with s; ok is false when they are not as
// many as they should be.
func (s *Start) split(list []*os.File) (f files, ok bool) {
	want := 4
	if s.Workers > 1 {
		want += 1 + s.Workers
	}
	for _, has := range []bool{s.HasAccessLog, s.HasProfile} {
		if has {
			want++
		}
	}
	want += len(s.Links)
	if len(list) != want {
		return f, false
	}
	take := func() (first *os.File) {
		first, list = list[0], list[1:]
		return first
	}
	f.page, f.clients, f.flood, f.flows = take(), take(), take(), take()
	if s.Workers > 1 {
		f.memory = take()
		for range s.Workers {
			f.bells = append(f.bells, take())
		}
	}
	if s.HasAccessLog {
		f.access = take()
	}
	if s.HasProfile {
		f.profile = take()
	}
	f.answers = list
	return f, true
}

// InheritedChannel is the descriptor of the channel in a worker process.
const InheritedChannel = 3

// RoleVariable is set in the environment of worker processes.
const RoleVariable = "RINGROAD_ROLE"

// startTimeout is how long the master may take to say what to do.
const startTimeout = 10 * time.Second
