package admin

import (
	"strings"

	"ringroad/dataplane"
)

// metric is what a field of statistics is called.
type metric struct {
	name, help   string
	label, value string // that tell the field from others of the same name; "" valid iff it is the only one
}

// family is several fields under one name, told apart by a label.
type family struct {
	prefix     string            // of their struct
	begin      string            // of their names; the rest is the label's value
	values     map[string]string // label's value by name, in place of begin
	name, help string
	label      string
	kind       string
}

// families are the fields that one sums up, or compares in one picture.
var families = []family{
	{
		prefix: "levels", name: "umem_frames", label: "state", kind: "gauge",
		values: map[string]string{"free": "free", "fill": "fill", "rx": "rx", "tx": "tx"},
		help:   "Frames by what they are about: free to send, with the kernel to receive into, being read, being sent.",
	},
	{
		prefix: "levels", name: "ring_descriptors", label: "ring", kind: "gauge",
		values: map[string]string{"fill_ring": "fill", "rx_ring": "rx", "tx_ring": "tx", "completion_ring": "completion"},
		help:   "Descriptors on a ring.",
	},
	{
		prefix: "proxy", begin: "responses_", name: "responses_total", label: "class", kind: "counter",
		help: "Responses begun, from backends and our own, by the class of their status.",
	},
	{
		prefix: "proxy", begin: "timeouts_", name: "timeouts_total", label: "timeout", kind: "counter",
		help: "Waits that took too long, by the key of timeouts that limits them.",
	},
	{
		prefix: "proxy", begin: "errors_", name: "exchange_errors_total", label: "source", kind: "counter",
		help: "Exchanges that failed, and attempts that a backend failed, by whose fault it was.",
	},
}

// renamed are the fields that say in the metrics' vocabulary what they are, by the
// prefix of their struct and their name. "" hides one.
var renamed = map[string]string{
	"levels_frames":                 "umem_frames_capacity",
	"levels_ring_entries":           "ring_capacity",
	"levels_backlog_bytes":          "queue_backlog_bytes",
	"levels_backlog_capacity_bytes": "queue_backlog_capacity_bytes",
	"levels_fill_ring_low_water":    "queue_fill_ring_low_water",
	"loop_batch":                    "loop_batch_frames",
	"proxy_client_bytes_in":         "client_received_bytes",
	"proxy_client_bytes_out":        "client_sent_bytes",
	"proxy_backend_bytes_in":        "backend_received_bytes",
	"proxy_backend_bytes_out":       "backend_sent_bytes",
	"proxy_loop_lag":                "loop_lag",
	"proxy_connections_max":         "connections_high_water",
	"upstream_server_id":            "",
}

// nameOf works out the metric of a field. ok is false when it is none.
func nameOf(prefix string, f dataplane.StatField) (m metric, ok bool) {
	for i := range families {
		k := &families[i]
		if k.prefix != prefix || k.kind != f.Kind {
			continue
		}
		value, ok := k.values[f.Name]
		if !ok && k.begin != "" {
			value, ok = strings.CutPrefix(f.Name, k.begin)
		}
		if ok {
			return metric{name: k.name, help: k.help, label: k.label, value: value}, true
		}
	}
	name := prefix + "_" + f.Name
	if prefix == "proxy" {
		name = f.Name // what everything here is about
	}
	if other, ok := renamed[prefix+"_"+f.Name]; ok {
		if name = other; name == "" {
			return metric{}, false
		}
	}
	switch {
	case f.Unit == dataplane.UnitTime:
		name += "_seconds"
	case f.Unit == "bytes" && !strings.Contains(name, "bytes"):
		name += "_bytes"
	}
	if f.Kind == "counter" {
		name += "_total"
	}
	return metric{name: name, help: sentence(f.Help)}, true
}

// sentence makes a help text begin and end as all do.
func sentence(s string) string {
	if first, _, _ := strings.Cut(s, " "); !strings.ContainsAny(first, "._") {
		s = strings.ToUpper(s[:1]) + s[1:]
	}
	return strings.TrimSuffix(s, ".") + "."
}
