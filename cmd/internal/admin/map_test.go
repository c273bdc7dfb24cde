package admin

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"ringroad/cmd/internal/trace"
	"ringroad/cmd/internal/tui"
	"ringroad/cmd/internal/worker"
	"ringroad/proxy/config"
)

//go:generate go test -run TestKernelMap -write .

// station is a buffer of a request's way, under the kernel and here. What a buffer has not is "".
type station struct {
	kernel string
	here   string   // in words
	code   []string // package.Type or package.Type.Method
	top    []string // rows of `ringroad top`

	level, capacity, high, full string // metrics: of full what counts when it is, or empty for the fill ring
	more                        []string

	events []string // of `ringroad trace`
	keys   []string // of the configuration
}

// stations are in the order in which a request passes them, which is that of DESIGN 9 and of top.
var stations = []station{
	{
		kernel: "NIC ring: descriptors of free buffers", here: "fill ring: frames to receive into", code: []string{"dataplane.Queue", "dataplane.frames"}, top: []string{"fill ring"},
		level: `ring_descriptors{ring="fill"}`, capacity: "ring_capacity", high: "queue_fill_ring_low_water", full: "kernel_fill_ring_empty_total",
		more: []string{"kernel_rx_dropped_total"}, keys: []string{"rings.entries", "rings.frames", "rings.frame_bytes"},
	},
	{
		kernel: "NIC ring: received, until the interrupt", here: "RX ring, behind the XDP program", code: []string{"bpf.Steer", "dataplane.Queue.Peek"}, top: []string{"RX ring"},
		level: `ring_descriptors{ring="rx"}`, capacity: "ring_capacity", high: "queue_rx_ring_high_water", full: "kernel_rx_ring_full_total",
		more: []string{"queue_rx_invalid_total", "xdp_frames_total"}, events: []string{"frame_received"}, keys: []string{"rings.entries", "busy_poll"},
	},
	{
		kernel: "the CPU's backlog, `netdev_max_backlog`", here: "backlog: what a crowded RX ring is emptied into", code: []string{"dataplane.Queue.Peek", "dataplane.backlog"}, top: []string{"RX backlog"},
		level: "queue_backlog_bytes", capacity: "queue_backlog_capacity_bytes", high: "queue_backlog_high_water_bytes", full: "queue_backlog_full_total",
		more: []string{"queue_backlogged_total"}, events: []string{"frame_received"}, keys: []string{"rings.backlog"},
	},
	{
		kernel: "interrupt handler: parse, find the socket, copy, ACK, mark ready", here: "a turn takes a batch through netstack", code: []string{"stack.Stack.Turn"},
		more: []string{"loop_batch_frames", "loop_turn_length_seconds"}, events: []string{"frame_received"}, keys: []string{"rx_checksum"},
	},
	{
		kernel: "softirq on another CPU (RPS)", here: "hand-over ring to the worker whose flow it is", code: []string{"dataplane.Handover", "stack.Placement"}, top: []string{"handover"},
		level: "handover_ring_out_bytes", capacity: "handover_ring_capacity_bytes", high: "handover_ring_high_water_bytes", full: "handover_full_total",
		events: []string{"frame_received"}, keys: []string{"rss.key"},
	},
	{
		kernel: "SYN queue, `tcp_max_syn_backlog`; full: cookies", here: "handshakes under way; full: cookies", code: []string{"stack.Listener"}, top: []string{"SYN queue"},
		level: "tcp_syn_queue", capacity: "tcp_listen_queue_capacity", high: "tcp_syn_queue_high_water", full: "tcp_syn_cookies_sent_total",
		events: []string{"syn_queue"}, keys: []string{"listeners[].backlog"},
	},
	{
		kernel: "accept queue, min(backlog, `somaxconn`); full: SYNs dropped", here: "the same", code: []string{"stack.Listener"}, top: []string{"accept queue"},
		level: "tcp_accept_queue", capacity: "tcp_listen_queue_capacity", high: "tcp_accept_queue_high_water", full: "tcp_syn_dropped_total",
		more: []string{"tcp_ack_dropped_total", "tcp_segments_dropped_total"}, events: []string{"accept_queue"}, keys: []string{"listeners[].backlog"},
	},
	{
		kernel: "file descriptors, `RLIMIT_NOFILE`", here: "connections of a worker; at the limit accepting pauses", code: []string{"proxy.listener"}, top: []string{"clients"},
		level: "clients_active", capacity: "connections_limit", high: "connections_high_water", full: "accept_pauses_total",
		events: []string{"accepted"}, keys: []string{"limits.max_connections"},
	},
	{
		kernel: "socket receive buffer, of clients; full: the window closes", here: "the same, of the connection", code: []string{"stack.Conn"}, top: []string{"client recv"},
		level: "client_receive_buffer_bytes", capacity: "client_receive_buffer_capacity_bytes", high: "client_receive_buffer_high_water_bytes", full: "client_receive_buffer_full_total",
		events: []string{"receive_buffer", "read"}, keys: []string{"tcp.receive_buffer.default", "tcp.receive_buffer.max", "tcp.auto_tuning"},
	},
	{
		kernel: "epoll: interest list and ready list, edge-triggered", here: "the same two lists", code: []string{"stack.Poller"},
		more: []string{"loop_turns_total", "loop_lag_seconds"}, events: []string{"ready", "taken", "runs"}, keys: []string{"watchdog"},
	},
	{
		kernel: "request context on the worker's heap: client and backend descriptor", here: "exchange: client and backend connection, with their buffers",
		code: []string{"proxy.exchange", "proxy.buffers"}, top: []string{"exchanges", "buffers"},
		level: "exchanges_active", capacity: "connections_limit", high: "exchanges_high_water", full: "accept_pauses_total",
		more: []string{"buffers_in_use", "congestions_total"}, events: []string{"parsed", "chosen", "built", "response"}, keys: []string{"limits.request_line", "limits.fields"},
	},
	{
		kernel: "pool of upstream connections", here: "the same, by backend and worker", code: []string{"upstream.Server"}, top: []string{"backends idle", "backends busy"},
		level: "upstream_server_connections_idle", capacity: "upstream_server_connections_idle_max", high: "backends_idle_high_water", full: "upstream_server_connections_evicted_total",
		more: []string{"backend_stale_total", "backend_refusals_total"}, events: []string{"chosen", "released"}, keys: []string{"upstreams.NAME.keepalive", "upstreams.NAME.keepalive_timeout"},
	},
	{
		kernel: "ephemeral ports, `ip_local_port_range`", here: "backend ports, chosen so that replies come home", code: []string{"stack.Placement"},
		more: []string{"link_ports_placed_total", "link_ports_unplaced_total"}, events: []string{"connecting"}, keys: []string{"backend_ports"},
	},
	{
		kernel: "socket send buffer, of backends; full: EAGAIN, EPOLLOUT later", here: "the same, of the connection", code: []string{"stack.Conn"}, top: []string{"backend send"},
		level: "backend_send_buffer_bytes", capacity: "backend_send_buffer_capacity_bytes", high: "backend_send_buffer_high_water_bytes", full: "backend_send_buffer_full_total",
		events: []string{"written"}, keys: []string{"tcp.send_buffer.default", "tcp.send_buffer.max", "timeouts.backend_send"},
	},
	{
		kernel: "socket receive buffer, of backends", here: "the same, of the connection", code: []string{"stack.Conn"}, top: []string{"backend recv"},
		level: "backend_receive_buffer_bytes", capacity: "backend_receive_buffer_capacity_bytes", high: "backend_receive_buffer_high_water_bytes", full: "backend_receive_buffer_full_total",
		events: []string{"receive_buffer", "read"}, keys: []string{"tcp.receive_buffer.default", "timeouts.backend_read"},
	},
	{
		kernel: "socket send buffer, of clients", here: "the same, of the connection", code: []string{"stack.Conn"}, top: []string{"client send"},
		level: "client_send_buffer_bytes", capacity: "client_send_buffer_capacity_bytes", high: "client_send_buffer_high_water_bytes", full: "client_send_buffer_full_total",
		events: []string{"written"}, keys: []string{"tcp.send_buffer.default", "timeouts.client_send"},
	},
	{
		kernel: "delayed ACKs", here: "ACKs held for data to travel with", code: []string{"stack.heldQueue"}, top: []string{"held ACKs"},
		level: "link_acks_holding", capacity: "link_flows", high: "link_acks_holding_high_water", full: "link_acks_expired_total", keys: []string{"tcp.ack_delay"},
	},
	{
		kernel: "qdisc, driver queue stopped", here: "packets that wait for a TX frame; nobody reads meanwhile", code: []string{"stack.packetQueue"}, top: []string{"TX backlog"},
		level: "link_backlog", full: "link_tx_backpressure_total",
	},
	{
		kernel: "sk_buffs being sent", here: "TX frames", code: []string{"dataplane.Queue.Reserve"}, top: []string{"TX frames"},
		level: `umem_frames{state="tx"}`, capacity: "umem_frames_capacity", high: "queue_tx_frames_high_water", full: "queue_tx_no_frame_total",
		events: []string{"frame_sent"}, keys: []string{"rings.frames"},
	},
	{
		kernel: "NIC's TX ring", here: "TX ring, a kick a turn", code: []string{"dataplane.Queue.Kick"}, top: []string{"TX ring"},
		level: `ring_descriptors{ring="tx"}`, capacity: "ring_capacity", high: "queue_tx_ring_high_water", full: "queue_kick_stalled_total",
		events: []string{"kick"}, keys: []string{"rings.entries"},
	},
	{
		kernel: "TX completion interrupt", here: "completion ring; never full, it has room for all TX frames", code: []string{"dataplane.Queue.Reap"}, top: []string{"completion"},
		level: `ring_descriptors{ring="completion"}`, capacity: "ring_capacity", high: "queue_completion_ring_high_water", events: []string{"completed"},
	},
	{
		kernel: "TIME_WAIT buckets", here: "a table of tuples", code: []string{"stack.timeWaitTable"}, top: []string{"time wait"},
		level: "link_time_wait", more: []string{"link_time_wait_segments_total"}, keys: []string{"tcp.time_wait"},
	},
	{
		kernel: "TCP's timers", here: "netstack's timers, run by the loop", code: []string{"stack.clock"},
		level: "tcp_timers", high: "tcp_timers_high_water", keys: []string{"tcp.min_rto"},
	},
	{
		kernel: "nginx's timer tree", here: "timer wheel: one for each wait of a connection", code: []string{"proxy.wheel"},
		level: "wheel_timers", high: "wheel_timers_high_water", more: []string{"timeouts_total"}, keys: []string{"timeouts.client_header", "timeouts.keepalive"},
	},
}

// call is a system call of an event-driven server, and what is called in its place.
type call struct {
	kernel  string
	code    []string
	metrics []string
	events  []string
	keys    []string
}

var calls = []call{
	{"socket, setsockopt, bind, listen", []string{"stack.Stack.Listen"}, []string{"tcp_listen_queue_capacity"}, nil, []string{"listeners[].address", "listeners[].backlog"}},
	{"epoll_create1, epoll_ctl", []string{"stack.Poller.AddListener", "stack.Poller.AddConn", "stack.Poller.ModConn", "stack.Poller.DelConn"}, nil, []string{"ready"}, nil},
	{"epoll_wait", []string{"stack.Poller.Wait", "stack.Stack.Sleep"}, []string{"loop_turns_total", "loop_sleeps_total"}, []string{"taken"}, []string{"wait", "spin_budget"}},
	{"accept4", []string{"stack.Listener.Accept"}, []string{"clients_accepted_total", "accept_errors_total"}, []string{"accepted"}, []string{"limits.max_connections"}},
	{"recv", []string{"stack.Conn.Read"}, []string{"reads_total", "reads_empty_total"}, []string{"read"}, []string{"timeouts.client_header", "timeouts.client_body", "timeouts.backend_read"}},
	{"connect", []string{"stack.Stack.Connect"}, []string{"backend_connects_total", "connect_time_seconds"}, []string{"connecting", "connected"}, []string{"timeouts.connect", "backend_ports"}},
	{"getsockopt(SO_ERROR)", []string{"stack.Conn.Err"}, []string{"backend_refusals_total", "exchange_errors_total"}, []string{"failed"}, nil},
	{"send", []string{"stack.Conn.Write"}, []string{"writes_total", "client_send_buffer_full_total"}, []string{"written"}, []string{"timeouts.client_send", "timeouts.backend_send"}},
	{"shutdown(SHUT_WR)", []string{"stack.Conn.CloseWrite"}, []string{"link_fins_merged_total"}, []string{"closed"}, nil},
	{"close", []string{"stack.Conn.Close"}, []string{"clients_closed_total"}, []string{"closed", "last_ack"}, []string{"limits.keepalive_requests", "timeouts.keepalive"}},
	{"close after SO_LINGER 0", []string{"stack.Conn.Abort"}, []string{"clients_aborted_total", "tcp_resets_sent_total"}, []string{"aborted"}, nil},
	{"(sendto, for all of a turn)", []string{"stack.Stack.Flush", "dataplane.Queue.Kick"}, []string{"queue_kicks_total", "queue_kick_calls_total", "queue_kick_left_total"}, []string{"kick"}, nil},
	{"(ppoll, when there is nothing to do)", []string{"dataplane.Waiter.Wait"}, []string{"loop_sleeps_total"}, nil, []string{"wait"}},
}

// TestKernelMap holds the map to the code (metrics, types, rows of top, events of trace, keys and their defaults), and README.md to
// the map.
func TestKernelMap(t *testing.T) {
	m := newReferee(t)
	var b strings.Builder
	b.WriteString(`
| under the kernel | in ringroad | code | ` + "`top`" + ` | metrics: level, capacity, most, when full; others | ` + "`trace`" + ` | keys (defaults) |
|---|---|---|---|---|---|---|
`)
	shown := map[string]bool{}
	for _, s := range stations {
		for _, row := range s.top {
			if !m.rows[row] {
				t.Errorf("%s: top has no row %q", s.kernel, row)
			}
			shown[row] = true
		}
		var metrics []string
		for _, name := range []string{s.level, s.capacity, s.high, s.full} {
			metrics = append(metrics, m.metric(t, name))
		}
		cell := strings.Join(metrics, ", ")
		if s.level == "" {
			cell = ""
		}
		for i, name := range s.more {
			if i == 0 && cell != "" {
				cell += "; "
			} else if i > 0 {
				cell += ", "
			}
			cell += m.metric(t, name)
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", s.kernel, s.here, m.code(t, s.code), strings.Join(s.top, ", "), cell, m.events(t, s.events), m.keys(t, s.keys))
	}
	for row := range m.rows {
		if !shown[row] {
			t.Errorf("no buffer of the map is the row %q of top", row)
		}
	}
	b.WriteString(`
| system call | call in ringroad | metrics | ` + "`trace`" + ` | keys (defaults) |
|---|---|---|---|---|
`)
	for _, c := range calls {
		var metrics []string
		for _, name := range c.metrics {
			metrics = append(metrics, m.metric(t, name))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.kernel, m.code(t, c.code), strings.Join(metrics, ", "), m.events(t, c.events), m.keys(t, c.keys))
	}
	b.WriteString("\n")
	hold(t, b.String())
}

var write = flag.Bool("write", false, "write the map into README.md")

// hold compares the text with what README.md has between the markers of the map.
func hold(t *testing.T, want string) {
	t.Helper()
	const file, begin, end = "../../../README.md", "<!-- kernel map: begin -->\n", "<!-- kernel map: end -->"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(src), begin)
	is, after, closed := strings.Cut(rest, end)
	switch {
	case !ok || !closed:
		t.Fatalf("README.md lacks the markers %q and %q", begin, end)
	case is == want || t.Failed():
	case !*write:
		t.Fatal("the map in README.md differs from the table: run `go generate ./cmd/internal/admin`")
	default:
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// referee knows what there is.
type referee struct {
	families map[string]*dto.MetricFamily
	declared map[string]bool // package.Type and package.Type.Method
	rows     map[string]bool // of buffers, in top
	defaults map[string]string
}

func newReferee(t *testing.T) *referee {
	t.Helper()
	m := &referee{declared: map[string]bool{}, rows: map[string]bool{}, defaults: map[string]string{}}
	_, m.families = scrape(t, func() (worker.Snapshot, bool) { return full(), true })
	for _, dir := range []string{"bpf", "dataplane", "stack", "proxy", "proxy/upstream"} {
		m.declare(t, "../../../"+dir)
	}
	// A row begins with a name of up to 14 characters. Behind an empty line come the rates.
	var screen strings.Builder
	source := func(context.Context) (tui.Reading, error) { return tui.Reading{Stats: full()}, nil }
	if err := tui.Once(t.Context(), source, time.Millisecond, 100, &screen); err != nil {
		t.Fatal(err)
	}
	const nameWidth = 15
	for line := range strings.Lines(screen.String()) {
		if name := strings.TrimSpace(line[:min(nameWidth, len(line))]); name != "" && line[0] != ' ' && len(m.rows) > 0 || name == "fill ring" {
			m.rows[name] = true
		} else if len(m.rows) > 0 {
			break
		}
	}
	row := regexp.MustCompile("(?m)^\\| `([^`]+)`[^|]* \\| [^|]* \\| ([^|]*) \\|")
	for _, r := range row.FindAllStringSubmatch(config.Reference(), -1) {
		m.defaults[r[1]] = r[2]
	}
	return m
}

// declare notes the types and methods of a package.
func (m *referee) declare(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if s, ok := s.(*ast.TypeSpec); ok {
						m.declared[f.Name.Name+"."+s.Name.Name] = true
					}
				}
			case *ast.FuncDecl:
				if d.Recv == nil {
					continue
				}
				receiver := d.Recv.List[0].Type
				if p, ok := receiver.(*ast.StarExpr); ok {
					receiver = p.X
				}
				if name, ok := receiver.(*ast.Ident); ok {
					m.declared[f.Name.Name+"."+name.Name+"."+d.Name.Name] = true
				}
			}
		}
	}
}

func quoted(s string) string { return "`" + s + "`" }

func (m *referee) metric(t *testing.T, name string) string {
	t.Helper()
	if name == "" {
		return "-"
	}
	family, label, _ := strings.Cut(name, "{")
	for _, series := range m.families[namespace+"_"+family].GetMetric() {
		for _, l := range series.GetLabel() {
			if label == "" || label == fmt.Sprintf("%s=%q}", l.GetName(), l.GetValue()) {
				return quoted(name)
			}
		}
	}
	t.Errorf("there is no metric %s", name)
	return ""
}

func (m *referee) code(t *testing.T, names []string) string {
	t.Helper()
	var cells []string
	for _, name := range names {
		if !m.declared[name] {
			t.Errorf("there is no %s", name)
		}
		cells = append(cells, quoted(name))
	}
	return strings.Join(cells, ", ")
}

func (m *referee) events(t *testing.T, names []string) string {
	t.Helper()
	var cells []string
	for _, name := range names {
		var line trace.Line
		if err := json.Unmarshal(fmt.Appendf(nil, `{"events":[{"at_ns":0,"event":%q}]}`, name), &line); err != nil {
			t.Errorf("trace has no event %s: %v", name, err)
		}
		cells = append(cells, quoted(name))
	}
	return strings.Join(cells, ", ")
}

func (m *referee) keys(t *testing.T, names []string) string {
	t.Helper()
	var cells []string
	for _, name := range names {
		def, ok := m.defaults[name]
		if !ok {
			t.Errorf("the configuration has no key %s", name)
		}
		cell := quoted(name)
		if strings.HasPrefix(def, "`") {
			cell += " (" + strings.Trim(def, "`") + ")"
		}
		cells = append(cells, cell)
	}
	return strings.Join(cells, ", ")
}
