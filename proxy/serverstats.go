package proxy

// ServerStats are the counters and gauges of one server of an upstream, as one worker
// sees it.
type ServerStats struct {
	ID       uint64 `name:"id" kind:"gauge" unit:"hash" help:"upstream.ID of the server; 0: there is none"`
	Up       uint64 `name:"up" kind:"gauge" unit:"servers" help:"whether the server is chosen for requests: 0 for a while after no connection to it could be made"`
	Open     uint64 `name:"connections" kind:"gauge" unit:"connections" help:"connections to the server open, idle ones included"`
	Idle     uint64 `name:"connections_idle" kind:"gauge" unit:"connections" help:"connections to the server in the pool"`
	Room     uint64 `name:"connections_idle_max" kind:"gauge" unit:"connections" help:"idle connections that the pool of the server keeps"`
	Requests uint64 `name:"requests" kind:"counter" unit:"requests" help:"requests sent to the server, those sent again included"`
	Failures uint64 `name:"connect_failures" kind:"counter" unit:"connections" help:"connections to the server that could not be made"`
	Evicted  uint64 `name:"connections_evicted" kind:"counter" unit:"connections" help:"connections closed because the pool of the server was full"`
}

// ServerStats describes the servers of the configuration in use, as many as there is
// room for, and clears the rest. It runs on the loop.
func (w *Worker) ServerStats(to []ServerStats) {
	i := 0
	for _, g := range w.groups {
		for _, s := range g.Servers {
			if i == len(to) {
				return
			}
			to[i] = ServerStats{
				ID: s.ID(), Open: s.Open, Idle: uint64(s.IdleCount()), Room: uint64(s.IdleMax()),
				Requests: s.Requests, Failures: s.Failures, Evicted: s.Evicted,
			}
			if s.Up(w.now) {
				to[i].Up = 1
			}
			i++
		}
	}
	clear(to[i:])
}
