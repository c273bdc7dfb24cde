package trace

import (
	"strings"
	"time"
)

// Kind says what an event is.
type Kind uint8

// The events of a request, in the order in which most of them come.
const (
	FrameReceived Kind = iota
	SYNQueue
	AcceptQueue
	Accepted
	ReceiveBuffer
	Ready
	Taken
	Runs
	Read
	Parsed
	Chosen
	Built
	Connecting
	Connected
	Written
	FrameSent
	Kick
	Completed
	Interim
	Response
	Answered
	Failed
	Released
	Tunnel
	KeptAlive
	Closed
	Aborted
	LastACK

	kindCount
)

// Side is the connection that an event is about.
type Side uint8

// The sides.
const (
	NoSide Side = iota
	Client
	Backend
)

// sideNames are the sides as they are written.
var sideNames = [...]string{"", "client", "backend"}

func (s Side) String() string { return sideNames[s] }

// maxValues is how many values an event has room for.
const maxValues = 10

// Event is a point in the life of a request.
type Event struct {
	At     time.Duration // of the trace's clock in a worker; since the first event of the request in a Line
	Took   time.Duration // zero: a moment
	Kind   Kind
	Side   Side
	Values [maxValues]uint32 // as Kind says
}

// valueType says how a value is written.
type valueType uint8

const (
	number    valueType = iota
	boolean             // 0, 1
	optional            // number plus one; 0: none, left out
	flagSet             // of the TCP header
	ifaceName           // index of an interface
	server              // index of a server
	failure             // index of an error
)

// value is one of a kind's.
type value struct {
	name string
	as   valueType
	help string
}

// kind is what is known of all events of a kind.
type kind struct {
	name   string // as in JSON
	help   string
	values []value
}

// kinds describe events. The places of values are those of the constants below.
var kinds = [kindCount]kind{
	FrameReceived: {"frame_received", "frames of the connection were taken from the RX ring and copied into a packet of netstack", []value{
		{"interface", ifaceName, ""}, {"queue", number, "of the interface"}, {"slot", optional, "of the RX ring, of the first frame; none: it came from the backlog"},
		{"position", number, "of the first frame in the batch, from 1"}, {"batch", number, "frames taken at once"},
		{"frames", number, "of the connection"}, {"bytes", number, "of payload"}, {"flags", flagSet, "TCP"},
		{"handed_by", optional, "the worker that they came in at, and that handed them over; queue, slot and batch are not known then"},
		{"waiting", number, "frames left on the RX ring, and in the backlog, behind the batch"}}},
	SYNQueue:      {"syn_queue", "the handshake waits in the SYN queue: the SYN-ACK was sent", nil},
	AcceptQueue:   {"accept_queue", "the handshake is done: the connection waits in the accept queue", nil},
	Accepted:      {"accepted", "the worker took the connection off the accept queue", nil},
	ReceiveBuffer: {"receive_buffer", "netstack put the first bytes into the receive buffer, or the end of the stream", nil},
	Ready:         {"ready", "the connection was put on the ready list", nil},
	Taken:         {"taken", "the worker took it off the ready list, as epoll_wait returns", []value{{"events", number, "taken at once"}}},
	Runs:          {"runs", "the worker turns to the connection", nil},
	Read: {"read", "bytes were copied from the receive buffer into the proxy's memory", []value{
		{"bytes", number, ""}, {"level", number, "bytes left in the receive buffer"}, {"capacity", number, "of the receive buffer"}}},
	Parsed: {"parsed", "the head of the request is complete", []value{{"bytes", number, "of the head"}}},
	Chosen: {"chosen", "a server was chosen", []value{{"server", server, ""}, {"pooled", boolean, "over a connection of the pool"}, {"attempt", number, "from 1"}}},
	Built: {"built", "bytes were written into the buffer that they leave from: a head anew, or a body that cannot be read straight into it", []value{
		{"bytes", number, ""}}},
	Connecting: {"connecting", "a connection to the server was begun", nil},
	Connected:  {"connected", "its handshake is done", nil},
	Written: {"written", "bytes were copied into the send buffer", []value{
		{"bytes", number, ""}, {"level", number, "bytes in the send buffer, not yet acknowledged"}, {"capacity", number, "of the send buffer"},
		{"left", number, "bytes that did not fit and wait in the proxy's memory"}}},
	FrameSent: {"frame_sent", "segments were copied into frames on the TX ring", []value{
		{"interface", ifaceName, ""}, {"frames", number, ""}, {"bytes", number, "of payload"}, {"flags", flagSet, "TCP"}}},
	Kick: {"kick", "the kernel was told of the frames, and sent them; or the worker's sender was, a thread that makes the calls meanwhile", []value{
		{"interface", ifaceName, ""}, {"frames", number, "of this request"}, {"all", number, "frames that the TX ring held"},
		{"calls", number, "system calls"}, {"left", number, "frames that it did not take"},
		{"sender", boolean, "the calls were left to the sender, which is not traced"}}},
	Completed: {"completed", "the completion ring gave the frames back", []value{{"interface", ifaceName, ""}, {"frames", number, "of this request"}}},
	Interim:   {"interim", "a 1xx response came", []value{{"status", number, ""}}},
	Response:  {"response", "the head of the response is complete", []value{{"status", number, ""}, {"bytes", number, "of the head"}}},
	Answered:  {"answered", "the proxy made an answer of its own", []value{{"status", number, ""}, {"bytes", number, "with the head"}}},
	Failed:    {"failed", "something went wrong", []value{{"error", failure, ""}, {"retried", boolean, "on another connection"}}},
	Released:  {"released", "the connection to the server is in use no more", []value{{"pooled", boolean, "kept, or else closed"}}},
	Tunnel:    {"tunnel", "both connections carry another protocol from now on", nil},
	KeptAlive: {"kept_alive", "the response is written: the connection stays", nil},
	Closed:    {"closed", "the response is written: the connection is closed with FIN", nil},
	Aborted:   {"aborted", "the connection ends with RST, or the client is gone", nil},
	LastACK:   {"last_ack", "the client has acknowledged the last byte, and the FIN if there is one", nil},
}

// Places of values.
const (
	frameInterface, frameQueue, frameSlot, framePosition, frameBatch = 0, 1, 2, 3, 4
	frameFrames, frameBytes, frameFlags, frameFrom, frameWaiting     = 5, 6, 7, 8, 9

	takenEvents                                             = 0
	moveBytes, moveLevel, moveCapacity, moveLeft            = 0, 1, 2, 3
	chosenServer, chosenPooled, chosenAttempt               = 0, 1, 2
	sentInterface, sentFrames, sentBytes, sentFlags         = 0, 1, 2, 3
	kickInterface, kickFrames, kickAll, kickCalls, kickLeft = 0, 1, 2, 3, 4
	kickSender                                              = 5
	statusStatus, statusBytes                               = 0, 1
	failedError, failedAgain                                = 0, 1
	releasedPooled                                          = 0
)

// TCP flags (RFC 9293 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
)

// flagNames in the order of their bits, as tcpdump and Wireshark name them.
var flagNames = [...]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

func flagText(f uint32) string {
	switch f { // nearly all
	case flagACK:
		return "ACK"
	case flagACK | flagPSH:
		return "PSH ACK"
	}
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// Place is where bytes were copied from and to.
type Place uint8

// The places of copies, in the order in which a request meets them.
const (
	FrameToPacket Place = iota // UMEM frame to netstack's packet
	ReceiveToHeap              // receive buffer to the proxy's memory
	HeapToHeap                 // within it: heads written anew, bodies with other framing
	HeapToSend                 // to the send buffer
	SendToFrame                // send buffer to UMEM frame
	placeCount
)

var placeNames = [placeCount]string{"frame_to_packet", "receive_buffer_to_heap", "heap_to_heap", "heap_to_send_buffer", "send_buffer_to_frame"}

// Line is the time line of one request.
type Line struct {
	Start      time.Time // of the first event
	Worker     int
	ID         uint64 // counted from 1 by each worker, in the order in which they begin
	Client     string // address and port
	Listener   string
	Method     string
	Target     string
	Status     int      // 0: none was sent
	Upstream   string   // "": none was chosen
	Servers    []string // of each attempt
	Errors     []string
	Tunnel     bool
	Unfinished bool               // the trace ended before the request
	Took       time.Duration      // from the first event to the end of the exchange
	Events     []Event            // in the order of their times
	LeftOut    int                // events beyond what a line holds
	Copies     [placeCount]uint64 // bytes by Place

	Interfaces []string
}
