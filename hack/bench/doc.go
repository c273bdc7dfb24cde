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
// Figures are of the result kept as 2026-11-27 (one queue; offloads off, as on a wire), its CPU profiles, and the benchmarks of package stack.
//
//   - 1 connection, spinning, p50 0.76x (target 0.55x): direct, which is no proxy at all, has 24 us where nginx has 48, 0.50x. A
//     proxy may so add 2.4 us to be at 0.55x; client, backend and the spinning worker share two processors.
//   - 64 connections, user-space CPU 5.4 us (5 us), of all the proxy's 9.9 us: a request is 1.6 us of receiving, 0.9 us of sending, 0.8 us
//     of netstack, 1 us of parsing, 0.8 us of relaying. The way to 3 us is below. 1 KB answers, 1.20x (1.25x): they come from the backend
//     in two segments, head and body, which are 3.3 frames, 1.5 turns and 0.9 send calls a request instead of 2, 0.3 and 0.3. Since
//     that result both are written at once (proxy/gather.go): 3 frames in and 2 out, 1.12x of the requests/s in pairs.
//   - 5,000 connections, p99 5.8x (1x; requests/s 1.17x): in a closed loop all 5,000 requests wait before the slowest, which is the
//     worker. In that result they waited in its RX ring, and of 50,000 frames in 2 s there was no room for one. Since then a crowded ring is
//     emptied into a backlog: none is lost, and p99 is 1.2x (requests/s 1.25x): 204 ms where the median is 116. One request in fifteen is
//     then the first of its connection, which waits for the handshakes of 5,000.
//   - Resident memory 46 MB (40 MB): 36 MB since the rings have 2,048 entries and the backlog takes bursts. 10 MB are the frames of two
//     sockets (2,048 for receiving and 512 for sending each), 2 MB the table of open connections that the XDP program reads, 7 to 8 MB the
//     worker's heap, 3 MB the master's, the rest is the executable and what the runtime keeps.
//   - A connection for each request, 0.68x of HAProxy (1.15x; closed by the client 0.82x of nginx): no proxy can be there, as direct
//     itself has 1.05x (1.10x). The machine spends 60 us a request without a proxy, 66 with HAProxy, and 89 here: 18 us are the
//     kick, 35 user space. By BenchmarkConnection two fifths of that is the endpoint that is made when the handshake ends (newEndpoint,
//     initSender, registering), a tenth its end, a seventh read, write and close, a sixteenth the SYN; 43 allocations, nearly all in
//     newEndpoint and initSender, where netstack lets nothing be used again. To the backend as well, 0.65x (1x): twice of all that,
//     100 allocations.
//   - 64 KB answers, 0.72x (1x): the proxy takes 160 us a request, of which 95 us in kicks: 50 frames of 1,420 bytes in two calls, for each of
//     which the kernel makes an sk_buff, copies the frame, and has the client's TCP take it inside the call. The 65 us in
//     user space were 115 before this build. One process is busy with 160 us a request, 6,250 a second; with
//     no user space at all the machine would still spend 240 us where nginx spends 215: 0.9x. In chunks 0.78x, 64 KB up 0.87x,
//     1 MB up 0.86x and down 0.62x: the same, and more frames. Of 1 MB down, 76 % of the worker's time are kicks, and a fifth
//     of all is the backend's TCP: our ACK reaches it within the kick, and what it lets out is sent there too, on the worker's
//     processor while the other one has time left. Of the user space (BenchmarkRelay, 48 us less 12 of its own) 7 us
//     are copies, 4.5 verifying and 2.5 computing checksums, 5 netstack's handling of segments, the rest headers, look-ups and its sender.
//   - 64 KB with offloads on: 0.24x of nginx, as fast as with offloads off. The kernel's TCP hands 64 KB to veth in one sk_buff;
//     AF_XDP knows frames of an MTU only, on both sides, and veth in native mode with a program takes no larger ones.
//
// The way to 3 us goes through netstack; these are estimates from the profiles, not measured, for patches of some ten lines
// each. A map that checks its list of unacknowledged segments (protectedWriteList in snd.go, which its authors mean to
// take out again) costs three look-ups or changes for each segment sent: 0.3 us a request. The receive queue and RTT without locks of
// their own: 0.3 us. What was received read out of its frame, without a view between: 0.4 us. Since that result segments are used again
// by the loop (stack/spare.go), 0.2 us, and keys of flows are made without copies of addresses, 0.15 us.
//
// Client, backend and proxy share the processors of this machine, and numbers on veth compare candidates with one another: they do not
// say what a network card would do. It needs root, nginx, HAProxy and wrk (`make bench` installs them).
package main
