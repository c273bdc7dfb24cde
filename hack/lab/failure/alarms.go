package failure

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"ringroad/hack/lab"
)

// alarms are the counters that stand still as long as all is well. What the path and the peers bring about by themselves on a
// busy machine, such as retransmissions, is none of them.
var alarms = []string{
	"kernel_fill_ring_empty_total", "kernel_rx_ring_full_total", "kernel_rx_dropped_total",
	"kernel_rx_invalid_descs_total", "kernel_tx_invalid_descs_total", "queue_backlog_full_total",
	"queue_rx_oversized_total", "queue_rx_invalid_total", "queue_tx_refused_total", "queue_tx_no_frame_total", "queue_kick_no_buffers_total", "queue_kick_link_down_total",
	"link_rx_malformed_total", "link_tx_backpressure_total", "link_tx_unresolved_dropped_total", "link_kick_errors_total",
	"handover_full_total",
	"tcp_failed_attempts_total", "tcp_established_resets_total", "tcp_established_timeouts_total",
	"tcp_segments_invalid_total", "tcp_checksum_errors_total", "tcp_resets_sent_total", "tcp_resets_received_total",
	"tcp_syn_dropped_total", "tcp_ack_dropped_total", "tcp_syn_cookies_sent_total", "tcp_syn_cookies_invalid_total",
	lag, "worker_restarts_total",
	"accept_pauses_total", "accept_errors_total", "clients_aborted_total", "congestions_total",
	"client_receive_buffer_full_total", "client_send_buffer_full_total", "backend_receive_buffer_full_total", "backend_send_buffer_full_total",
	"backend_refusals_total", "backend_retries_total", "backend_stale_total",
	`responses_total{class="4xx"}`, `responses_total{class="5xx"}`,
	`exchange_errors_total{source="client"}`, `exchange_errors_total{source="backend"}`, `exchange_errors_total{source="internal"}`,
	`timeouts_total{timeout="client_header"}`, `timeouts_total{timeout="client_body"}`, `timeouts_total{timeout="client_send"}`,
	`timeouts_total{timeout="connect"}`, `timeouts_total{timeout="backend_read"}`, `timeouts_total{timeout="backend_send"}`,
	"limited_requests_total", "limited_connections_total", "limited_resets_total", "limited_evictions_total", "limited_untracked_total",
	"upstream_server_connect_failures_total", "upstream_server_connections_evicted_total",
}

// lag is how many turns of loops were late by more than a second.
const lag = "loop_lag_seconds over 1s"

const (
	namespace   = "ringroad_"
	scrapeLimit = 5 * time.Second
)

// kinds are the labels that tell series of different meaning apart; over all others, such as worker and queue, values are summed.
var kinds = []string{"class", "timeout", "source", "ring", "state"}

// reading is the value of each metric at one moment. Of histograms it has what lag says.
type reading map[string]float64

// scrape reads the counters as a monitor does.
func scrape(l *lab.Lab) (reading, error) {
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return l.Edge.Dial(ctx, network, address)
	}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: scrapeLimit}).Get("http://" + admin + "/metrics")
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return nil, fmt.Errorf("read counters: %s: %s", resp.Status, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	r := reading{}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				if name == namespace+"loop_lag_seconds" {
					r[lag] += over(h, 1)
				}
				continue
			}
			r[key(name, m)] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return r, nil
}

// key is how a series goes by in a reading.
func key(name string, m *dto.Metric) string {
	name = name[min(len(namespace), len(name)):]
	for _, l := range m.GetLabel() {
		if slices.Contains(kinds, l.GetName()) {
			return fmt.Sprintf("%s{%s=%q}", name, l.GetName(), l.GetValue())
		}
	}
	return name
}

// over is how many values of a histogram lie above the first bound that is at least so large.
func over(h *dto.Histogram, bound float64) float64 {
	for _, b := range h.GetBucket() {
		if b.GetUpperBound() >= bound {
			return float64(h.GetSampleCount() - b.GetCumulativeCount())
		}
	}
	return 0
}

// moved are the alarms that differ between two readings.
func (r reading) moved(since reading) []string {
	var list []string
	for _, name := range alarms {
		if r[name] != since[name] {
			list = append(list, name)
		}
	}
	return list
}

// missing are the names that a reading lacks: counters that do not exist tell nothing.
func (r reading) missing(names []string) []string {
	var list []string
	for _, name := range names {
		if _, ok := r[name]; !ok {
			list = append(list, name)
		}
	}
	return list
}

// rest says what a reading shows that is not at rest, though nobody uses ringroad any more; "" when all is.
func (r reading) rest() string {
	for _, name := range []string{"clients_active", "exchanges_active", "buffers_in_use", "tunnels_active", "tcp_syn_queue", "tcp_accept_queue", "link_backlog",
		`umem_frames{state="rx"}`, `umem_frames{state="tx"}`} {
		if r[name] != 0 {
			return fmt.Sprintf("%s is %.0f", name, r[name])
		}
	}
	if r["backends_active"] != r["backends_idle"] {
		return fmt.Sprintf("%.0f connections to backends, %.0f in pools", r["backends_active"], r["backends_idle"])
	}
	if free, fill, all := r[`umem_frames{state="free"}`], r[`umem_frames{state="fill"}`], r["umem_frames_capacity"]; free+fill != all {
		return fmt.Sprintf("frames: %.0f free + %.0f to receive into of %.0f", free, fill, all)
	}
	return ""
}
