package stack

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// synTimeout is when netstack first sends a SYN again (RFC 6298 2). Timestamps
// have milliseconds: the second can measure some less.
const (
	synTimeout  = time.Second
	synRounding = 10 * time.Millisecond
)

// begin is called before the first data of ep is written, and returns its sequence
// number; ok is false when the handshake is not done.
//
// The segments of ep are full ones from here on (fullsegment.go).
//
// It lets that data of ep measure the round trip when the
// handshake could not. netstack measures it by the timestamp that the peer echoes,
// and a SYN that is sent again carries the timestamp of the first one
// (handshake.sendSYNOpts in connect.go): after a loss the second of waiting counts
// as round trip, against RFC 6298 3, and wears off by an eighth a round trip. So
// long a lost tail costs two seconds and a lost probe three. What remains is the
// retransmission time-out, which RFC 6298 5.7 wants to be 3 s, until data is
// acknowledged.
func begin(ep *tcp.Endpoint) (first seqnum.Value, ok bool) {
	ep.LockUser()
	defer ep.UnlockUser()
	snd, ok := senderOf(ep)
	if !ok {
		return 0, false
	}
	if snd.rtt.SRTT >= synTimeout-synRounding {
		*snd.rtt = tcp.TCPRTTState{}
	}
	fillSegments(ep, &snd)
	return snd.state.SndUna, true
}
