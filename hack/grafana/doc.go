// Package grafana holds a dashboard for what /metrics shows: ringroad.json, to be
// imported into Grafana. Its rows follow a request through the buffers that it passes.
package grafana

import _ "embed"

// Dashboard is the dashboard as JSON.
//
//go:embed ringroad.json
var Dashboard []byte
