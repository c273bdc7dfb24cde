package stack

import (
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Info is what TCP knows of one connection, as `ss -ti` shows it for a socket of the
// kernel's.
type Info struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	State  string         `json:"state"` // of RFC 9293 3.3.2: ESTABLISHED, CLOSE-WAIT, ...

	RTT    time.Duration `json:"rtt_ns"`    // smoothed round trip (RFC 6298), measured in whole milliseconds; 0: not yet
	RTTVar time.Duration `json:"rttvar_ns"` // and its variation
	RTO    time.Duration `json:"rto_ns"`    // retransmission time-out; 0: nothing can be sent yet

	CongestionWindow   uint64 `json:"cwnd_segments"`
	SlowStartThreshold uint64 `json:"ssthresh_segments"` // 0: none, nothing was lost yet
	PeerWindow         uint64 `json:"peer_window_bytes"` // what the peer has room for (SND.WND)
	Recovery           string `json:"recovery"`          // from a loss: disorder, fast, sack or timeout; "": none is going on

	Retransmits     uint64 `json:"retransmits"` // segments sent again, for whatever reason
	FastRetransmits uint64 `json:"fast_retransmits"`
	Timeouts        uint64 `json:"timeouts"`     // of the retransmission timer
	ZeroWindows     uint64 `json:"zero_windows"` // times the receive buffer was full

	Buffered
	BytesRead    uint64 `json:"bytes_read"`    // from the receive buffer
	BytesWritten uint64 `json:"bytes_written"` // to the send buffer
}

// Info looks at c. It takes the endpoint's lock three times and allocates nothing.
func (c *Conn) Info() Info {
	i := Info{Local: c.local, Remote: c.remote, Buffered: c.Buffered(), BytesRead: c.read, BytesWritten: c.written}
	ep := c.endpoint.(*tcp.Endpoint)
	var t tcpip.TCPInfoOption
	if err := ep.GetSockOpt(&t); err != nil {
		return i // it always knows this option
	}
	i.State = tcp.EndpointState(t.State).String()
	i.RTT, i.RTTVar, i.RTO = t.RTT, t.RTTVar, t.RTO
	i.Recovery = recoveries[t.CcState]
	if s, ok := ep.Stats().(*tcp.Stats); ok {
		i.Retransmits = s.SendErrors.Retransmits.Value()
		i.FastRetransmits = s.SendErrors.FastRetransmit.Value()
		i.Timeouts = s.SendErrors.Timeouts.Value()
		i.ZeroWindows = s.ReceiveErrors.ZeroRcvWindowState.Value()
	}
	ep.LockUser()
	defer ep.UnlockUser()
	if snd, ok := senderOf(ep); ok {
		i.CongestionWindow, i.PeerWindow = uint64(snd.state.SndCwnd), uint64(snd.state.SndWnd)
		if t := snd.state.Ssthresh; t != tcp.InitialSsthresh {
			i.SlowStartThreshold = uint64(t)
		}
	}
	return i
}

var recoveries = map[tcpip.CongestionControlState]string{
	tcpip.Disorder: "disorder", tcpip.FastRecovery: "fast", tcpip.SACKRecovery: "sack", tcpip.RTORecovery: "timeout",
}
