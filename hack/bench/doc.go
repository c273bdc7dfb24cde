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
// Shares are of ringroad's processor time, by CPU profiles of its cases; microseconds are those shares of the 10.2 us that a
// request at 64 connections took in user space in a quiet run, before package stack had the short ways of established
// connections (established.go, established_out.go there).
//
//   - 64 connections, requests/s and machine CPU: the kick, inside which veth does the peers' receiving, was a third of c64 and
//     is 38 % with the short ways. It is the same for every proxy on AF_XDP in copy mode, and gone on a NIC with zero-copy.
//   - User-space CPU for a request: 3.3 us went into two writes, 2.7 us into netstack's goroutine and its queues (1.1 us of it
//     into ACKs that data overtook), 1.4 us into receiving, 0.7 us into two reads, 1.6 us into HTTP. Half a request's TCP by
//     itself (BenchmarkAnswer of package stack) takes 0.44x of the time with the short ways. On the whole request they
//     were measured on a busy machine alone: the ratio of user to system time went down to 0.7-0.8x, so expect 7 to 8 us.
//     By a profile made after them: 14 % of all time netstack's handling of a segment (11 % its sender's part), 13 %
//     two writes (7 % the copy for retransmission and the timers), 6 % two reads, 8 % parsing, 5 % relaying.
//   - A connection for each request: 28 % kick, 14 % setting up and ending connections, 3 % GC. 56 allocations, nearly all inside
//     netstack (newEndpoint and initSender lead), where endpoints cannot be reused from outside. The short ways help only the
//     two segments of data a side.
//   - 64 KB answers: in a quiet run the proxy took 235 us a request, of which 120 us in kicks: 51 frames of 1,420 bytes in two calls,
//     2.35 us each, in which the kernel makes an sk_buff, copies the frame, and has the client's TCP take it. The whole
//     machine took 416 us, nginx's 247. The 115 us in user space have become fewer since: BenchmarkRelay of package stack (the same
//     less HTTP, in memory) went from 63 to 48 us of processor time at its best, from 90 to 59 in the median of 7 pairs.
//     About 12 us of it are the benchmark's own; 7 go into three copies and a fourth into the TX frames, 4.5 into
//     verifying checksums, 2.5 into computing them, 5 into netstack's handling of segments, the rest into headers, look-ups and
//     netstack's sender.
//     What is left cannot reach 1x in copy mode: one process is busy for its kicks and its user space, so it answers at most
//     1 s / (120 us + user space), and both processors at most 2 s / (301 us + user space). With no user space at all the latter is
//     6,600 requests/s, 0.87x of nginx's 7,650; with 75 us it is 5,100 by the process and 0.67x. A frame less is possible: segments leave
//     room for SACK blocks (see the known limits of package stack); 1,448 bytes in each would save one in 47.
//
// The way to 3 us goes through netstack; these are estimates from the profiles, not measured, for patches of some ten lines
// each. A map that checks its list of unacknowledged segments (protectedWriteList in snd.go, which its authors mean to
// take out again) costs three look-ups or changes for each segment sent: 0.3 us a request. Segments and packet buffers in lists of the
// one goroutine instead of sync.Pool with reference counts: 0.4 us. Reading without the three locks and two indirect writers
// of Endpoint.Read: 0.4 us. No keep-alive lock, and RTT in integers instead of floating point: 0.3 us. An own header prediction for the
// sender, which skips SACK, RACK and CUBIC where one segment is acknowledged and nothing was lost: 0.7 us. Profile-guided
// optimisation trained with the short ways (make pgo) comes on top.
//
// Client, backend and proxy share the processors of this machine, and numbers on veth compare candidates with one another: they do not
// say what a network card would do. It needs root, nginx, HAProxy and wrk (`make bench` installs them).
package main
