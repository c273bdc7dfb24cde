package tui

// value reads one number of a worker.
type value func(*counters) uint64

// buffer is a row: how full something is.
type buffer struct {
	name     string
	level    value  // nil: nobody can tell
	capacity value  // nil: there is no limit, or it is not known
	high     value  // high-water mark; nil: it is not kept
	full     value  // counts what happens when it is full, or empty for the fill ring; nil: nothing does
	means    string // of level and full, in 38 characters
	spare    bool   // left out on a low screen
	several  bool   // only with several workers
}

// flow is a row: how fast something passes.
type flow struct {
	name    string
	count   value
	spare   bool
	several bool
}

// buffers are in the order in which a request passes them.
var buffers = []buffer{
	{name: "fill ring", level: levels("fill_ring"), capacity: levels("ring_entries"), full: kernel("fill_ring_empty"),
		means: "to receive into; ! the NIC found none"},
	{name: "RX ring", level: levels("rx_ring"), capacity: levels("ring_entries"), high: ours("rx_ring_high_water"), full: func(c *counters) uint64 { return c.kernel["rx_ring_full"] + c.ours["rx_invalid"] },
		means: "received, not yet read; ! frames lost"},
	{name: "RX backlog", level: levels("backlog_bytes"), capacity: levels("backlog_capacity_bytes"), high: ours("backlog_high_water_bytes"), full: ours("backlog_full"), spare: true,
		means: "bytes off a crowded RX ring; ! no room"},
	{name: "handover", level: handover("ring_out_bytes"), capacity: handover("ring_capacity_bytes"), high: handover("ring_high_water"), full: handover("handed_full"), several: true,
		means: "bytes to other workers; ! frames lost"},
	{name: "SYN queue", level: inStack("syn_queue"), capacity: inStack("listen_queue_capacity"), high: inStack("syn_queue_high_water"), full: inStack("syn_cookies_sent"),
		means: "handshakes; ! full, cookies sent"},
	{name: "accept queue", level: inStack("accept_queue"), capacity: inStack("listen_queue_capacity"), high: inStack("accept_queue_high_water"), full: (func(c *counters) uint64 { return c.stack["syn_dropped"] + c.stack["ack_dropped"] }),
		means: "to accept; ! SYNs and ACKs dropped"},
	{name: "clients", level: inProxy("clients_active"), capacity: inProxy("connections_limit"), high: inProxy("connections_max"), full: inProxy("accept_pauses"),
		means: "open, ^ with backends; ! at the limit"},
	{name: "client recv", level: inProxy("client_receive_buffer_bytes"), capacity: inProxy("client_receive_buffer_capacity_bytes"), high: inProxy("client_receive_buffer_high_water_bytes"), full: inProxy("client_receive_buffer_full"), spare: true,
		means: "bytes not yet read; ! window closed"},
	{name: "exchanges", level: inProxy("exchanges_active"), high: inProxy("exchanges_high_water"),
		means: "requests not yet answered"},
	{name: "buffers", level: inProxy("buffers_in_use"), full: inProxy("congestions"),
		means: "held; ! reads put off: no TX frame"},
	{name: "backends busy", level: busy, full: inProxy("backend_refusals"),
		means: "with an exchange; ! refused"},
	{name: "backends idle", level: inProxy("backends_idle"), high: inProxy("backends_idle_high_water"), full: inProxy("backend_stale"),
		means: "in the pools; ! found ended"},
	{name: "backend send", level: inProxy("backend_send_buffer_bytes"), capacity: inProxy("backend_send_buffer_capacity_bytes"), high: inProxy("backend_send_buffer_high_water_bytes"), full: inProxy("backend_send_buffer_full"), spare: true,
		means: "bytes a backend has not taken"},
	{name: "backend recv", level: inProxy("backend_receive_buffer_bytes"), capacity: inProxy("backend_receive_buffer_capacity_bytes"), high: inProxy("backend_receive_buffer_high_water_bytes"), full: inProxy("backend_receive_buffer_full"), spare: true,
		means: "bytes not yet read; ! window closed"},
	{name: "client send", level: inProxy("client_send_buffer_bytes"), capacity: inProxy("client_send_buffer_capacity_bytes"), high: inProxy("client_send_buffer_high_water_bytes"), full: inProxy("client_send_buffer_full"),
		means: "bytes a client has not taken; ! full"},
	{name: "held ACKs", level: link("acks_holding"), high: link("acks_holding_high_water"), spare: true,
		means: "that may yet travel with data"},
	{name: "time wait", level: link("time_wait"), spare: true,
		means: "closed, remembered"},
	{name: "TX backlog", level: link("backlog"), full: link("tx_backpressure"),
		means: "wait for a TX frame; ! had to"},
	{name: "TX frames", level: levels("tx"), capacity: sending, high: ours("tx_frames_high_water"), full: ours("tx_no_frame"),
		means: "written or being sent; ! none free"},
	{name: "TX ring", level: levels("tx_ring"), capacity: levels("ring_entries"), high: ours("tx_ring_high_water"), full: ours("kick_stalled"),
		means: "to send; ! the kernel took no more"},
	{name: "completion", level: levels("completion_ring"), capacity: levels("ring_entries"), high: ours("completion_ring_high_water"),
		means: "sent, not yet taken back"},
}

var flows = []flow{
	{name: "requests/s", count: inProxy("requests")},
	{name: "connections/s", count: inProxy("clients_accepted")},
	{name: "errors/s", count: func(c *counters) uint64 {
		return c.proxy["errors_client"] + c.proxy["errors_backend"] + c.proxy["errors_internal"]
	}, spare: true},
	{name: "limited/s", count: func(c *counters) uint64 {
		return c.proxy["limited_requests"] + c.proxy["limited_connections"] + c.proxy["limited_resets"]
	}, spare: true},
	{name: "frames in/s", count: ours("rx_frames")},
	{name: "frames out/s", count: ours("tx_frames"), spare: true},
	{name: "bytes in/s", count: ours("rx_bytes"), spare: true},
	{name: "bytes out/s", count: ours("tx_bytes")},
	{name: "retransmits/s", count: inStack("retransmits")},
	{name: "turns/s", count: inStack("turns"), spare: true},
	{name: "handed over/s", count: handover("sent"), several: true},
}

func levels(name string) value   { return func(c *counters) uint64 { return c.levels[name] } }
func ours(name string) value     { return func(c *counters) uint64 { return c.ours[name] } }
func kernel(name string) value   { return func(c *counters) uint64 { return c.kernel[name] } }
func link(name string) value     { return func(c *counters) uint64 { return c.link[name] } }
func inStack(name string) value  { return func(c *counters) uint64 { return c.stack[name] } }
func inProxy(name string) value  { return func(c *counters) uint64 { return c.proxy[name] } }
func handover(name string) value { return func(c *counters) uint64 { return c.handover[name] } }

// sending is how many frames may send: TX frames never receive.
func sending(c *counters) uint64 { return c.levels["free"] + c.levels["tx"] }

func busy(c *counters) uint64 {
	all, idle := c.proxy["backends_active"], c.proxy["backends_idle"]
	return all - min(idle, all)
}
