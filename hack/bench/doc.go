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
// # What holds the cells that are missed
//
// Figures are of the result kept as 2026-11-27b (one queue; offloads off, as on a wire), of a slow hour of the machine, where it says so
// of 2026-11-27, of a fast one; its CPU profiles, and the benchmarks of package stack.
//
//   - 64 connections, user-space CPU 6.7 us (5 us), 5.6 in four more rounds, where nginx had 5.0 both times; in 2026-11-27, with nginx
//     at 4.1, it was 5.4 with a build whose TCP took a fifth longer (BenchmarkAnswer). A request is 1.6 us of receiving, 0.9 us of sending,
//     0.8 us of netstack, 1 us of parsing, 0.8 us of relaying, and some of looking for frames before the loop sleeps. The way to 3 us is below.
//   - 1 KB answers, 0.95x (1.25x) of HAProxy in its two rounds and 1.25x, 1.30x in two other runs of the same build: they come from the
//     backend in two segments, head and body, which are written at once (proxy/gather.go).
//   - A connection for each request that the client closes, 1.03x of HAProxy (1.15x): no proxy can be there, as direct itself has
//     1.11x. Closed by the proxy it is 1.46x of nginx. To the backend as well, 0.94x of HAProxy (1x): of the proxy's 91 us 48 are user
//     space. By BenchmarkConnection two fifths of that are the endpoint that is made when the handshake ends (newEndpoint, initSender,
//     registering), a tenth its end, a seventh read, write and close, a sixteenth the SYN; 43 allocations, nearly all in newEndpoint and
//     initSender, where netstack lets nothing be used again. The dialled side (SYN, port, two hashes) is about as much.
//   - 64 KB answers, 0.92x (1x), in chunks 0.91x, 64 KB up in chunks 0.95x, in one piece 1.01x of HAProxy: the proxy takes 203 us a
//     request and is one busy process, of which 134 us are kicks: 50 frames in two calls, for each of which the kernel makes an sk_buff, copies
//     the frame, and has the client's TCP take it inside the call. nginx takes 159 us. Without the 69 us of user space the machine would
//     spend 311 us a request where nginx has it spend 355; in 2026-11-27 it was 240 and 215.
//   - 1 MB down 0.73x, up 0.80x (1x): the same, and more frames. Of 1 MB down, 76 % of the worker's time are kicks, and a fifth of all is the
//     backend's TCP: our ACK reaches it within the kick, and what it lets out is sent there too, on the worker's processor while the
//     other one has time left. Of the user space (BenchmarkRelay, 48 us less 12 of its own) 7 us are copies, 4.5 verifying and 2.5
//     computing checksums, 5 netstack's handling of segments, the rest headers, look-ups and its sender.
//   - 64 KB with offloads on: 0.35x of nginx, as fast as with offloads off. The kernel's TCP hands 64 KB to veth in one sk_buff;
//     AF_XDP knows frames of an MTU only, on both sides, and veth in native mode with a program takes no larger ones.
//
// The way to 3 us goes through netstack; these are estimates from the profiles, not measured, for patches of some ten lines
// each. A map that checks its list of unacknowledged segments (protectedWriteList in snd.go, which its authors mean to
// take out again) costs three look-ups or changes for each segment sent: 0.3 us a request. The receive queue and RTT without locks of
// their own: 0.3 us. What was received read out of its frame, without a view between: 0.4 us. Segments are used again by the loop
// (stack/spare.go) since 2026-11-27, 0.2 us, and keys of flows made without copies of addresses, 0.15 us.
//
// Client, backend and proxy share the processors of this machine, and numbers on veth compare candidates with one another: they do not
// say what a network card would do. It needs root, nginx, HAProxy and wrk (`make bench` installs them).
package main
