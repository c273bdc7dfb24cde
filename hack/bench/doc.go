// Command bench compares ringroad with nginx and HAProxy on this machine: the same lab, the same clients and backends, one proxy after
// the other, in interleaved rounds.
//
// # What is compared
//
// A case (cases.go) is a load; a candidate (candidates.go) is what stands between client and backend: ringroad, ringroad-spin (the same
// with wait: spin), nginx, haproxy, or direct, which is nothing but the edge's kernel forwarding: what is left when it is subtracted is
// the proxy's. The candidate base is ringroad from another binary (-base) or without the settings of -set, to compare two of them in
// one run; traced and scraped are ringroad while one request in 1000 is followed, and while its metrics are asked for every second (the
// others have no admin endpoint), to see what looking costs. A cell is a candidate in a case. In each round every candidate is started, warmed up for a second, measured and stopped;
// the XDP program is attached only while ringroad is measured.
//
// # How it is measured
//
// Saturation comes from wrk (closed loop: each connection sends its next request when the last one is answered; its latencies are
// corrected by wrk for what a stall kept from being sent, so they compare with one another and with nothing else). Latency at a fixed rate
// comes from package openloop, which sends by the clock, whatever the answers do, and counts from the time a request was due: at 30,
// 60 and 80 % of what the slowest candidate can do, the same for all. Processor times are those of the kernel (/proc, 10 ms), so
// measurements of less than a second say little of them. A cell with any error, or any answer but 2xx and 3xx, is invalid: it is shown
// and never compared.
//
// Ringroad runs once more in each case with a CPU profile, whose samples are shared out among the steps of a request (profile.go).
//
// # What comes of it
//
// A table on the terminal; with -keep NAME also NAME.json and NAME.html, a page with plots that needs nothing beside it, in the folder
// results, which keeps the machine's description with the figures. The next runs compare themselves with the newest kept one.
//
// Client, backend and proxy share the processors of this machine, and numbers on veth compare candidates with one another: they do not
// say what a network card would do. It needs root, nginx, HAProxy and wrk (`make bench` installs them).
package main
