package config

import (
	"log/slog"
	"net/netip"
	"time"
)

// Config is one complete configuration: what a file or the flags said, and the
// defaults for everything they did not say. Parse, ParseFile, Flags.Load and
// Default make one; nobody changes it afterwards, so any goroutine may read it.
type Config struct {
	Interfaces   []string      // network interfaces, in the order given; at least one
	Workers      int           // worker processes; 0: auto, one a receive queue
	CPUAffinity  Affinity      // where workers run
	User         string        // name or number of the user that workers become
	PIDFile      string        // holds the number of the master; "": none
	Watchdog     time.Duration // how long a worker's loop may be silent
	Admin        AdminAddress  // of the admin endpoint; zero: off
	PProf        bool          // the admin endpoint gives profiles
	XDPMode      XDPMode       // how the steering program is attached
	ZeroCopy     ZeroCopy      // whether the driver may receive straight into the UMEM
	RXChecksum   RXChecksum    // what is done with checksums of received segments
	TXChecksum   TXChecksum    // who completes the checksums of segments that are sent
	Wait         Wait          // what a worker does when it has nothing to do
	SpinBudget   time.Duration // how long WaitSpin polls in vain before it sleeps
	Prepare      bool          // set up the interfaces, until the end
	BusyPoll     int           // frames that a worker's poll of the driver may handle; 0: the kernel polls
	BackendPorts PortRange     // local ports of connections to backends
	RSS          RSS
	Rings        Rings
	TCP          TCP
	Listeners    []Listener // at least one
	Upstreams    []Upstream // in the order of the file; Route.UpstreamIndex points into it
	Via          bool       // add a Via field to what is forwarded, both ways
	XForwarded   XForwarded // what is done with X-Forwarded-For, -Proto and -Host
	Forwarded    Forwarded  // what is done with Forwarded
	ErrorPages   []ErrorPage
	Timeouts     Timeouts
	Limits       Limits
	Filter       Filter
	Log          Log

	origin origin // where each value was written, for messages
}

// MaxWorkers is the most workers there can be.
const MaxWorkers = 64

// Affinity says on which CPUs workers run. The zero value is auto: each on one of
// those that the process may use.
type Affinity struct {
	Off  bool  // wherever the kernel puts them
	CPUs []int // worker w runs on number w, modulo the length; empty: auto, or off
}

// RSS says what is known about the receive queue that an interface chooses for a
// frame.
type RSS struct {
	Key RSSKey
}

// AdminAddress is where the admin endpoint listens: one of the two is set, or none.
type AdminAddress struct {
	TCP  netip.AddrPort
	Path string // of a unix socket
}

// RSSKey is the key of the Toeplitz hash of the interfaces.
type RSSKey struct {
	Off   bool   // local ports are not chosen by it
	Bytes []byte // at least 40; empty: auto, as the driver says, or off
}

// XDPMode says how the steering program is attached to an interface.
type XDPMode string

// The values of xdp_mode.
const (
	XDPAuto    XDPMode = "auto"    // native, generic when the driver has no native mode
	XDPNative  XDPMode = "native"  // in the driver, before the kernel allocates a buffer
	XDPGeneric XDPMode = "generic" // in the kernel's receive path, on any interface, slower
)

// ZeroCopy says whether frames may be shared with the driver without a copy.
type ZeroCopy string

// The values of zero_copy.
const (
	ZeroCopyAuto ZeroCopy = "auto" // only on drivers where it is known to be sound
	ZeroCopyOn   ZeroCopy = "on"   // required: starting fails where the driver refuses
	ZeroCopyOff  ZeroCopy = "off"
)

// RXChecksum says what is done with the checksums of received segments.
type RXChecksum string

// The values of rx_checksum.
const (
	RXChecksumAuto   RXChecksum = "auto"   // trusted on veth, whose kernel peers leave them unfilled; verified elsewhere
	RXChecksumVerify RXChecksum = "verify" // a segment with a bad checksum is dropped and counted
	RXChecksumTrust  RXChecksum = "trust"  // never computed
)

// TXChecksum says who completes the checksums of segments that are sent.
type TXChecksum string

// The values of tx_checksum.
const (
	TXChecksumAuto     TXChecksum = "auto"     // the interface where that is known to be sound
	TXChecksumSoftware TXChecksum = "software" // the worker
	TXChecksumOffload  TXChecksum = "offload"  // the interface: starting fails where it cannot
)

// Wait says what a worker does when it has nothing to do.
type Wait string

// The values of wait.
const (
	WaitSleep Wait = "sleep" // sleeps in the kernel until a frame or a timer comes
	WaitSpin  Wait = "spin"  // polls the rings for SpinBudget first: less latency, up to all of one core
)

// PortRange is a range of ports, both ends included.
type PortRange struct{ First, Last uint16 }

// Ports returns how many ports are in the range.
func (p PortRange) Ports() int { return int(p.Last) - int(p.First) + 1 }

// Rings is the geometry of each AF_XDP socket.
type Rings struct {
	Entries      int // slots of each of the four rings, a power of two
	FrameBytes   int // bytes of one UMEM frame, 2048 or 4096; 0: auto, by the MTU of the interface
	Frames       int // frames of the UMEM; 0: auto, a quarter more than Entries
	BacklogBytes int // memory for packets of a crowded RX ring; 0: off
}

// TCP holds the knobs of the user-space TCP.
type TCP struct {
	CongestionControl CongestionControl
	SACK              bool          // selective acknowledgement, RFC 2018
	RACK              bool          // time-based loss detection, RFC 8985
	ACKDelay          time.Duration // how long a pure ACK may wait for data to travel with; 0: not at all
	MinRTO            time.Duration // least retransmission timeout
	SYNRetries        int           // retransmissions of a SYN to a backend
	Retries           int           // retransmissions of data before the connection fails
	FinWait           time.Duration // how long a connection that we closed waits for the peer's FIN
	TimeWait          time.Duration // how long a closed connection is remembered
	AutoTuning        bool          // receive buffers grow with the throughput, up to their maximum
	ReceiveBuffer     Buffer        // of each connection
	SendBuffer        Buffer        // of each connection
}

// CongestionControl names a congestion control algorithm.
type CongestionControl string

// The values of tcp.congestion_control.
const (
	Cubic CongestionControl = "cubic" // RFC 9438
	Reno  CongestionControl = "reno"  // RFC 5681
)

// Buffer is the span within which a connection's buffer may be sized, in bytes.
type Buffer struct{ MinBytes, DefaultBytes, MaxBytes int }

// Listener is one address that clients connect to.
type Listener struct {
	Address netip.AddrPort // may be unspecified: 0.0.0.0 all own IPv4 addresses, [::] all own IPv6 addresses (IPv6 only)
	Backlog int            // capacity of the SYN queue and of the accept queue, in connections
	Routes  []Route        // tried in order; never empty, `upstream:` directly in the listener becomes one route that matches everything

	ProxyProtocol bool     // every connection begins with a PROXY protocol header, which names the client
	Upgrade       []string // protocols that a connection may be upgraded to, lower case; MayUpgrade tells
	Connect       bool     // CONNECT is tunnelled to the backend; MayConnect tells

	Request    Edits       // of the requests of all routes
	Response   Edits       // of the responses of all routes
	ErrorPages []ErrorPage // in place of those of the configuration with the same status
}

// Route sends the requests that it matches to an upstream, or answers them itself:
// exactly one of Upstream, Redirect and Return is set. Find tells which one matches.
type Route struct {
	Host          string // lower case; exact, or "*.example.org" for every name below example.org; "": any host
	Path          string // prefix of the path, compared byte by byte; "": any request target
	Upstream      string // name of the upstream
	UpstreamIndex int    // its place in Config.Upstreams; -1: none
	Redirect      *Redirect
	Return        *Return

	Upgrade []string // instead of the listener's; nil: the listener's
	Connect Switch   // instead of the listener's; "": the listener's

	Request  Edits // on top of those of the listener
	Response Edits
	Timeouts RouteTimeouts

	direct bool // stands for `upstream:` of the listener itself
}

// Upstream is a pool of backends that answer the same requests.
type Upstream struct {
	Name             string
	Balance          Balance
	Servers          []netip.AddrPort // backends; at least one, each once
	KeepAlive        int              // idle connections kept for each backend and worker; 0: none
	KeepAliveTimeout time.Duration    // an idle connection to a backend is closed after this

	KeepAliveRequests int           // a connection to a backend is closed after so many requests; 0: no limit
	ProxyProtocol     ProxyProtocol // the header that each connection to a backend begins with
}

// Switch is a yes or no that may be left open.
type Switch string

// The values of a Switch.
const (
	Unset Switch = ""
	Off   Switch = "off"
	On    Switch = "on"
)

// ProxyProtocol says with which PROXY protocol header connections to backends begin.
type ProxyProtocol string

// The values of upstreams.NAME.proxy_protocol. The zero value is ProxyOff too.
const (
	ProxyOff ProxyProtocol = "off"
	ProxyV1  ProxyProtocol = "v1" // text
	ProxyV2  ProxyProtocol = "v2" // binary
)

// Balance names a way to choose a backend of an upstream.
type Balance string

// The values of upstreams.NAME.balance.
const (
	RoundRobin Balance = "round_robin" // each in turn
)

// XForwarded says what is done with X-Forwarded-For, -Proto and -Host in requests.
type XForwarded string

// The values of x_forwarded.
const (
	XForwardedAppend  XForwarded = "append"  // the client's address is added to the list in X-Forwarded-For; the others are set
	XForwardedReplace XForwarded = "replace" // all three are set; what the client sent is discarded
	XForwardedOff     XForwarded = "off"     // all three pass as the client sent them
)

// Forwarded says what is done with Forwarded (RFC 7239) in requests.
type Forwarded string

// The values of forwarded.
const (
	ForwardedOff     Forwarded = "off"     // passes as the client sent it
	ForwardedAppend  Forwarded = "append"  // an element about the client follows what it sent
	ForwardedReplace Forwarded = "replace" // that element alone is sent
)

// Timeouts bounds every wait. All are greater than zero.
type Timeouts struct {
	ClientHeader time.Duration // from the first byte of a request (or the accept of its connection) to the end of its head
	ClientBody   time.Duration // between two reads of a request body
	ClientSend   time.Duration // between two writes that a client let through
	KeepAlive    time.Duration // of a client connection between two requests
	Linger       time.Duration // of a client whose connection ends with its answer, between two reads of what it still sends
	Connect      time.Duration // from the SYN to a backend until it is connected
	BackendRead  time.Duration // between two reads from a backend, the wait for the first byte included
	BackendSend  time.Duration // between two writes that a backend let through
	Tunnel       time.Duration // of a tunnel through which nothing moves, in either direction
	Drain        time.Duration // from a graceful stop until what is left is closed

	WorkerShutdown time.Duration // from the order to stop until a worker is killed
}

// RouteTimeouts are the waits that a route may bound in another way: those of an
// exchange whose route is known. 0: as in Timeouts.
type RouteTimeouts struct {
	ClientBody, ClientSend, Connect, BackendRead, BackendSend time.Duration
}

// Limits bounds what one client or one request may take.
type Limits struct {
	MaxConnections   int   // client and backend connections of one worker together; accepting pauses at the limit
	RequestLineBytes int   // of a request or status line; over it a request is answered 414
	FieldsBytes      int   // of a header section; over it a request is answered 431
	FieldCount       int   // field lines of one section; over it a request is answered 431
	BodyBytes        int64 // of a request body; over it the request is answered 413; 0: no limit

	ChunkExtensionBytes int // extensions of one chunk; over it a request is answered 400
	ChunkOverheadBytes  int // extensions of all chunks of a body; over it a request is answered 400
	TrailerBytes        int // of a trailer section; over it a request is answered 431
	TrailerCount        int // field lines of a trailer section; over it a request is answered 431

	KeepAliveRequests int // a client connection is closed after so many requests; 0: no limit

	Client ClientLimits
}

// ClientLimits bounds what one client may take, at all workers together. A client is a
// prefix of addresses.
type ClientLimits struct {
	Connections int  // at a time; over it requests are answered 503; 0: no limit
	Requests    int  // a second; over it they are answered with Status; 0: no limit
	Burst       int  // requests that may come at once; 0: as many as Requests
	Status      int  // of the answer
	PrefixIPv4  int  // bits of an IPv4 address that make a client
	PrefixIPv6  int  // bits of an IPv6 address that make a client
	Entries     int  // clients that the table has room for
	DryRun      bool // what is over a limit is counted and logged, and passes
}

// On tells whether there is a limit at all.
func (l *ClientLimits) On() bool { return l.Connections > 0 || l.Requests > 0 }

// Filter says which sources may send to the listeners, and how much. The longest
// prefix that a source is in decides; a prefix that is in both lists is allowed.
type Filter struct {
	Allow, Deny         []netip.Prefix
	AllowFile, DenyFile string // more prefixes, one a line; "": none

	ConnectionRate  int // SYNs of a source prefix a second; 0: no limit
	ConnectionBurst int // at once; 0: as many as ConnectionRate
	PacketRate      int // packets of a source prefix a second; 0: no limit
	PacketBurst     int // at once; 0: as many as PacketRate
	IPv4Prefix      int // bits of an IPv4 source that are its prefix
	IPv6Prefix      int // bits of an IPv6 source that are its prefix

	SYNCookies SYNCookies // who sends them
}

// SYNCookies says who answers SYNs with SYN cookies when a SYN queue is full.
type SYNCookies string

// The values of filter.syn_cookies.
const (
	SYNCookiesAuto SYNCookies = "auto" // the XDP program where that is known to arrive
	SYNCookiesXDP  SYNCookies = "xdp"  // the XDP program
	SYNCookiesLoop SYNCookies = "loop" // the event loop of the worker
)

// Log says what is logged and where.
type Log struct {
	Level  slog.Level // least level of the messages on standard error
	Access string     // file that access lines are appended to; "": off
	Format LogFormat  // of access lines
}

// LogFormat names a format of access lines.
type LogFormat string

// The values of log.format.
const (
	Combined LogFormat = "combined" // nginx's combined format
	JSON     LogFormat = "json"     // an object a line, with the times of every phase
)
