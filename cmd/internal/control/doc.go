// Package control is how commands reach a running ringroad: HTTP on a unix
// socket, whose file only its owner may open.
//
//	GET  /status   what runs, as JSON: a Status
//	GET  /stats    every counter and gauge, as JSON: a worker.Snapshot
//	GET  /connections  client connections with their request and backend, as JSON:
//	               Connections; the query is what ParseConnections takes
//	POST /reload   read the configuration again: 200 with warnings, 422 with the
//	               reason why nothing has changed
//	POST /quit     end when the exchanges under way have: 202
//	POST /stop     end at once: 202
//	GET  /capture  the frames that pass, as pcapng, until DELETE /capture or the
//	               client ends it; the query is capture.Options'
//	GET  /trace    the time lines of requests, as lines of JSON, until DELETE
//	               /trace or the client ends it; the query is trace.Options'
//
// So curl can do all that the commands do:
//
//	curl --unix-socket /run/ringroad/control.sock http://ringroad/status
//
// The folder schema has JSON schemas of what /status, /stats and /connections answer.
//
// The master serves it ([Listen], [Serve]); a command is a client ([Dial]). The
// package also keeps the pid file, by which other programs find the master.
package control
