package stack

import "ringroad/dataplane"

// Every counter is a uint64 with tags that name it, listed by
// [dataplane.StatFields]; the layers above lay them out and show them.

// Histogram is how a field of statistics counts values by their size.
type Histogram = dataplane.Histogram

// LoopStats are the counters of the loop, written by the loop alone.
type LoopStats struct {
	Turns         uint64 `name:"turns" unit:"turns" kind:"counter" help:"Turns of the event loop."`
	BusyTurns     uint64 `name:"busy_turns" unit:"turns" kind:"counter" help:"Turns that received frames."`
	Sleeps        uint64 `name:"sleeps" unit:"sleeps" kind:"counter" help:"Times the loop parked."`
	Polls         uint64 `name:"polls" unit:"polls" kind:"counter" help:"Times the loop found work by looking at the rings for a moment before it parked."`
	BytesRead     uint64 `name:"bytes_read" unit:"bytes" kind:"counter" help:"Bytes read from receive buffers."`
	BytesWritten  uint64 `name:"bytes_written" unit:"bytes" kind:"counter" help:"Bytes written to send buffers."`
	TimersRearmed uint64 `name:"timers_rearmed" unit:"timers" kind:"counter" help:"Retransmission timers that netstack had lost, armed again."`

	Floods     uint64 `name:"floods" unit:"floods" kind:"counter" help:"Times that a flood of packets without a connection began, as this worker saw it: XDP drops them until it ends."`
	FloodGuard uint64 `name:"flood_guard" unit:"floods" kind:"gauge" help:"1 while XDP drops packets without a connection."`

	TurnLength Histogram `name:"turn_length" unit:"nanoseconds" kind:"histogram" help:"How long turns of the event loop took, but for those that the loop went to sleep after."`
	Batch      Histogram `name:"batch" unit:"frames" kind:"histogram" help:"How many frames came in a turn that received any, from all queues and other workers."`
}

// QueueStats are the levels of the queues of all listeners together.
type QueueStats struct {
	SynQueue             uint64 `name:"syn_queue" unit:"connections" kind:"gauge" help:"Handshakes under way: level of the SYN queues."`
	SynQueueHighWater    uint64 `name:"syn_queue_high_water" unit:"connections" kind:"gauge" help:"Most handshakes seen under way."`
	AcceptQueue          uint64 `name:"accept_queue" unit:"connections" kind:"gauge" help:"Connections that wait to be accepted: level of the accept queues."`
	AcceptQueueHighWater uint64 `name:"accept_queue_high_water" unit:"connections" kind:"gauge" help:"Most connections seen waiting to be accepted."`
	Capacity             uint64 `name:"listen_queue_capacity" unit:"connections" kind:"gauge" help:"What the SYN queues hold, and the accept queues too: the backlogs of all listeners."`
}

// LinkStats are the counters of one link. RX counters are written by the loop,
// the others under the link's lock.
type LinkStats struct {
	RXFrames            uint64 `name:"rx_frames" unit:"frames" kind:"counter" help:"Frames received from the queues."`
	RXLean              uint64 `name:"rx_lean" unit:"segments" kind:"counter" help:"Received segments that took the lean path."`
	RXEstablished       uint64 `name:"rx_established" unit:"segments" kind:"counter" help:"Those of them that TCP processed at once, as the next ones of established connections or as their last."`
	RXMerged            uint64 `name:"rx_merged" unit:"segments" kind:"counter" help:"Received segments merged into the one before (GRO), and pure ACKs that the next one made superfluous."`
	RXMalformed         uint64 `name:"rx_malformed" unit:"frames" kind:"counter" help:"Frames with a truncated or unknown link header, dropped."`
	RXForeignVLAN       uint64 `name:"rx_foreign_vlan" unit:"frames" kind:"counter" help:"Frames of a tagged VLAN, dropped."`
	TXFrames            uint64 `name:"tx_frames" unit:"frames" kind:"counter" help:"Frames put on the TX ring."`
	TXLean              uint64 `name:"tx_lean" unit:"segments" kind:"counter" help:"Sent segments that took the lean path."`
	TXEstablished       uint64 `name:"tx_established" unit:"segments" kind:"counter" help:"Those of them that were written straight into a frame."`
	TXSegmented         uint64 `name:"tx_segmented" unit:"segments" kind:"counter" help:"Large segments split into frames."`
	TXBackpressure      uint64 `name:"tx_backpressure" unit:"packets" kind:"counter" help:"Packets that had to wait for a TX frame."`
	TXUnresolved        uint64 `name:"tx_unresolved" unit:"packets" kind:"counter" help:"Packets that had to wait for a neighbour."`
	TXUnresolvedDropped uint64 `name:"tx_unresolved_dropped" unit:"packets" kind:"counter" help:"Packets dropped because the neighbour stayed unknown."`
	AcksHeld            uint64 `name:"acks_held" unit:"segments" kind:"counter" help:"Pure ACKs held back."`
	AcksSaved           uint64 `name:"acks_saved" unit:"segments" kind:"counter" help:"Held ACKs that data carried."`
	AcksExpired         uint64 `name:"acks_expired" unit:"segments" kind:"counter" help:"Held ACKs sent when their delay ended."`
	UpdatesRepeated     uint64 `name:"window_updates_repeated" unit:"segments" kind:"counter" help:"Window updates sent again because no data came after them."`
	FinsMerged          uint64 `name:"fins_merged" unit:"segments" kind:"counter" help:"FINs that left with the last data instead of a frame of their own."`
	TimeWaitSegments    uint64 `name:"time_wait_segments" unit:"segments" kind:"counter" help:"Segments received for connections in TIME_WAIT."`
	TimeWait            uint64 `name:"time_wait" unit:"connections" kind:"gauge" help:"Connections in TIME_WAIT."`
	PortsPlaced         uint64 `name:"ports_placed" unit:"connections" kind:"counter" help:"Backend connections whose port steers their replies to this worker."`
	PortsUnplaced       uint64 `name:"ports_unplaced" unit:"connections" kind:"counter" help:"Backend connections for which no free port was found that does."`
	KickErrors          uint64 `name:"kick_errors" unit:"kicks" kind:"counter" help:"Kicks that failed: the interface is gone."`
	AcksHolding         uint64 `name:"acks_holding" unit:"segments" kind:"gauge" help:"Pure ACKs held back at present; there is room for one a flow."`
	AcksHoldingMax      uint64 `name:"acks_holding_high_water" unit:"segments" kind:"gauge" help:"Most pure ACKs held back at a time."`
	GuardLand           uint64 `name:"guard_land" unit:"segments" kind:"counter" help:"SYNs from one of our own addresses, dropped."`
	GuardListenerResets uint64 `name:"guard_listener_resets" unit:"segments" kind:"counter" help:"Resets to a listener, dropped."`
	GuardMSSRaised      uint64 `name:"guard_mss_raised" unit:"segments" kind:"counter" help:"Handshakes with an MSS option below 48, which counted as that."`
	GuardUnsentACKs     uint64 `name:"guard_unsent_acks" unit:"segments" kind:"counter" help:"Segments that acknowledge what was never sent, dropped and answered with an ACK."`
	GuardOldACKs        uint64 `name:"guard_old_acks" unit:"segments" kind:"counter" help:"Segments whose acknowledgment is older than any window, dropped and answered with an ACK."`
	GuardSYNFINs        uint64 `name:"guard_syn_fins" unit:"segments" kind:"counter" help:"SYNs with FIN to a listener, dropped."`
	GuardSYNs           uint64 `name:"guard_syns" unit:"segments" kind:"counter" help:"SYNs with data to a connection, dropped and answered with an ACK."`
	GuardInexactResets  uint64 `name:"guard_inexact_resets" unit:"segments" kind:"counter" help:"Resets in the window of a handshake but not at its beginning, dropped and answered with an ACK."`
	GuardBehindFIN      uint64 `name:"guard_behind_fin" unit:"segments" kind:"counter" help:"Segments with data or FIN behind the peer's FIN, which were taken off."`
	GuardSources        uint64 `name:"guard_sources" unit:"packets" kind:"counter" help:"Packets from an address that no host can have, dropped."`
	GuardSourceRoutes   uint64 `name:"guard_source_routes" unit:"packets" kind:"counter" help:"IPv4 packets with a source route, dropped."`
	SynsShed            uint64 `name:"syns_shed" unit:"segments" kind:"counter" help:"SYNs dropped while frames came faster than they were taken, so that those of connections are not lost: a flood."`
	StraysShed          uint64 `name:"strays_shed" unit:"segments" kind:"counter" help:"Segments of no connection beyond what the stack deals with a second, dropped unanswered: a flood."`
	StrangeShed         uint64 `name:"strange_shed" unit:"packets" kind:"counter" help:"Fragments, ICMP errors and packets with IP options beyond what the stack deals with a second, dropped: a flood."`
	GuardICMPForged     uint64 `name:"guard_icmp_forged" unit:"packets" kind:"counter" help:"ICMP errors that quote nothing that is on its way, dropped."`
	GuardICMPIgnored    uint64 `name:"guard_icmp_ignored" unit:"packets" kind:"counter" help:"ICMP errors about a connection that must not end it, dropped."`
	PathMTUs            uint64 `name:"path_mtus" unit:"packets" kind:"counter" help:"ICMP errors that told of a smaller path MTU."`
	GuardOldTimestamps  uint64 `name:"guard_old_timestamps" unit:"segments" kind:"counter" help:"Segments with a timestamp older than the latest (PAWS), dropped and answered with an ACK."`
	RecoveriesUndone    uint64 `name:"recoveries_undone" unit:"events" kind:"counter" help:"Recoveries from a loss that was none: the segments had only been overtaken. The congestion window is what it was."`
	Flows               uint64 `name:"flows" unit:"flows" kind:"gauge" help:"Flows the link remembers."`
	Backlog             uint64 `name:"backlog" unit:"packets" kind:"gauge" help:"Packets waiting for a TX frame."`
}

// TCPStats are netstack's TCP counters (RFC 4022 names where it has one).
type TCPStats struct {
	ActiveOpens         uint64 `name:"active_opens" unit:"connections" kind:"counter" help:"Connections begun."`
	PassiveOpens        uint64 `name:"passive_opens" unit:"connections" kind:"counter" help:"Connections accepted."`
	FailedAttempts      uint64 `name:"failed_attempts" unit:"connections" kind:"counter" help:"Handshakes that failed."`
	Established         uint64 `name:"established" unit:"connections" kind:"gauge" help:"Connections in ESTABLISHED."`
	EstablishedResets   uint64 `name:"established_resets" unit:"connections" kind:"counter" help:"Connections ended by a reset."`
	EstablishedTimeouts uint64 `name:"established_timeouts" unit:"connections" kind:"counter" help:"Connections ended by a time-out."`
	SegmentsReceived    uint64 `name:"segments_received" unit:"segments" kind:"counter" help:"Valid segments received."`
	SegmentsInvalid     uint64 `name:"segments_invalid" unit:"segments" kind:"counter" help:"Malformed segments received."`
	ChecksumErrors      uint64 `name:"checksum_errors" unit:"segments" kind:"counter" help:"Segments with a bad checksum, dropped."`
	SegmentsSent        uint64 `name:"segments_sent" unit:"segments" kind:"counter" help:"Segments sent; a large one counts once."`
	Retransmits         uint64 `name:"retransmits" unit:"segments" kind:"counter" help:"Segments sent again."`
	FastRetransmits     uint64 `name:"fast_retransmits" unit:"segments" kind:"counter" help:"Segments sent again by fast retransmit."`
	Timeouts            uint64 `name:"timeouts" unit:"events" kind:"counter" help:"Retransmission time-outs."`
	ResetsSent          uint64 `name:"resets_sent" unit:"segments" kind:"counter" help:"Resets sent."`
	ResetsReceived      uint64 `name:"resets_received" unit:"segments" kind:"counter" help:"Resets received."`
	SynDropped          uint64 `name:"syn_dropped" unit:"segments" kind:"counter" help:"SYNs dropped because the accept queue was full."`
	SynCookiesSent      uint64 `name:"syn_cookies_sent" unit:"segments" kind:"counter" help:"SYN cookies sent because the SYN queue was full."`
	SynCookiesReceived  uint64 `name:"syn_cookies_received" unit:"segments" kind:"counter" help:"Valid SYN cookies received."`
	SynCookiesInvalid   uint64 `name:"syn_cookies_invalid" unit:"segments" kind:"counter" help:"Invalid SYN cookies received."`
	AckDropped          uint64 `name:"ack_dropped" unit:"segments" kind:"counter" help:"ACKs of SYN cookies dropped because the accept queue was full."`
	SegmentsDropped     uint64 `name:"segments_dropped" unit:"segments" kind:"counter" help:"Segments dropped that no other counter tells of: ACKs of handshakes that found the accept queue full, data beyond a receive buffer, resets to listeners."`
	Timers              uint64 `name:"timers" unit:"timers" kind:"gauge" help:"Armed timers."`
	TimersHighWater     uint64 `name:"timers_high_water" unit:"timers" kind:"gauge" help:"Most timers armed at a time."`
	Endpoints           uint64 `name:"endpoints" unit:"endpoints" kind:"gauge" help:"Transport endpoints registered, TIME_WAIT included."`
}

// LoopStats returns the loop's counters.
func (s *Stack) LoopStats() LoopStats {
	st := s.stats
	if s.flows != nil && s.flows.Guarding() {
		st.FloodGuard = 1
	}
	return st
}

// HandoverStats returns the counters of handing over; all zero when alone.
func (s *Stack) HandoverStats() HandoverStats {
	if s.peers == nil {
		return HandoverStats{}
	}
	return s.peers.stats
}

// LinkStats returns the counters of the link with this kernel interface index.
func (s *Stack) LinkStats(index int) LinkStats {
	l := s.linkByIndex(index)
	if l == nil {
		return LinkStats{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	st := l.stats
	st.TimeWait = uint64(l.timeWait.live)
	st.Flows, st.Backlog = uint64(len(l.flows.index)), uint64(l.backlog.len())
	return st
}

// TCPStats returns netstack's counters.
func (s *Stack) TCPStats() TCPStats {
	t := s.net.Stats().TCP
	s.countQueues()
	timers, most := s.clock.len()
	return TCPStats{
		ActiveOpens:         t.ActiveConnectionOpenings.Value(),
		PassiveOpens:        t.PassiveConnectionOpenings.Value(),
		FailedAttempts:      t.FailedConnectionAttempts.Value(),
		Established:         t.CurrentEstablished.Value(),
		EstablishedResets:   t.EstablishedResets.Value(),
		EstablishedTimeouts: t.EstablishedTimedout.Value(),
		SegmentsReceived:    t.ValidSegmentsReceived.Value(),
		SegmentsInvalid:     t.InvalidSegmentsReceived.Value(),
		ChecksumErrors:      t.ChecksumErrors.Value(),
		SegmentsSent:        t.SegmentsSent.Value(),
		Retransmits:         t.Retransmits.Value(),
		FastRetransmits:     t.FastRetransmit.Value(),
		Timeouts:            t.Timeouts.Value(),
		ResetsSent:          t.ResetsSent.Value(),
		ResetsReceived:      t.ResetsReceived.Value(),
		SynDropped:          t.ListenOverflowSynDrop.Value(),
		SynCookiesSent:      t.ListenOverflowSynCookieSent.Value(),
		SynCookiesReceived:  t.ListenOverflowSynCookieRcvd.Value(),
		SynCookiesInvalid:   t.ListenOverflowInvalidSynCookieRcvd.Value(),
		AckDropped:          t.ListenOverflowAckDrop.Value(),
		SegmentsDropped:     s.dropped(),
		Timers:              uint64(timers),
		TimersHighWater:     uint64(most),
		Endpoints:           uint64(s.endpoints()),
	}
}

// dropped counts what netstack dropped and has no counter of its own for. The ACK that
// ends a handshake is such: only that of a cookie has one.
func (s *Stack) dropped() uint64 {
	all, t := s.net.Stats(), s.net.Stats().TCP
	counted := t.ListenOverflowSynDrop.Value() + t.ListenOverflowInvalidSynCookieRcvd.Value() + t.ListenOverflowAckDrop.Value()
	// They are counted one after the other, maybe between these readings.
	return max(all.DroppedPackets.Value(), counted) - counted
}

// QueueStats returns the levels of the listeners' queues as TCPStats saw them last.
func (s *Stack) QueueStats() QueueStats { return s.queues }

// countQueues looks at the listeners' queues. netstack tells how many connections it
// has put on accept queues, and we know how many were taken off.
func (s *Stack) countQueues() {
	q := &s.queues
	q.SynQueue, q.AcceptQueue = uint64(s.synQueue.len()), 0
	if n := s.net.Stats().TCP.PassiveConnectionOpenings.Value(); n > s.accepted {
		q.AcceptQueue = n - s.accepted
	}
	q.SynQueueHighWater = max(q.SynQueueHighWater, q.SynQueue)
	q.AcceptQueueHighWater = max(q.AcceptQueueHighWater, q.AcceptQueue)
}
