// Package openloop is a small HTTP/1.1 load generator. It does what wrk does not: it sends at a fixed rate, closes connections by
// itself, and holds idle ones.
//
// # Open loop
//
// At a fixed rate, request i is due at i/rate after the start, whatever became of the requests before it. It is sent over a connection
// that is free, and waits for one when none is. Its latency counts from the time it was due, so that a server that stalls is charged
// with all that had to wait meanwhile, as its users would (no coordinated omission). Result.Late says how late the generator itself
// looked at its clock: where that is not small against the latencies, it or the machine was too slow for the rate.
//
// # Closed loop
//
// Without a rate each connection sends its next request when the last one is answered.
//
// # Not done here
//
// One thread, IPv4, no TLS, no pipelining, no chunked responses: a response needs a Content-Length.
package openloop
