// Command bench compares ringroad with nginx and HAProxy on this machine: the same lab, the same clients and backends, one proxy after
// the other, in interleaved rounds.
//
// # What is compared
//
// A case (cases.go) is a load; a candidate (candidates.go) is what stands between client and backend: ringroad, ringroad-spin (the same
// with wait: spin), nginx, haproxy, or direct, which is nothing but the edge's kernel forwarding: what is left when it is subtracted is
// the proxy's. The candidate base is ringroad from another binary (-base) or without the settings of -set, to compare two of them in
// one run; traced and scraped are ringroad while one request in 1000 is followed, and while its metrics are asked for every second (the
// others have no admin endpoint), to see what looking costs. A cell is a candidate in a case. In each round every candidate is
// started, warmed up for a second, measured and stopped; the XDP program is attached only while ringroad is measured. While
// it is, what sends to the edge has a queueing discipline, as hardware has (package lab): without one, until 2026-11-27d, veth lost what found the ring of an
// XDP program full, 0.1 to 0.5 % of the segments of bodies, which cost ringroad a tenth of its requests. The others run without: with one
// nginx had 309 answers of 1 MB a second and not 400, as bursts found the kernel's backlog full.
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
// Figures are of the result kept as 2026-11-27c (one queue; offloads off, as on a wire), its CPU profiles, in which the sender's calls
// are still "other", and the benchmarks of packages stack and proxy.
//
//   - 64 connections, 1.11x of nginx (1.25x), in other quiet runs of the day 1.12x to 1.16x, in slow hours of the machine 1.23x to 1.31x. The
//     machine takes 27.4 us a request with ringroad and 33.3 with nginx: with all of both processors used that were 1.22x. But 11 % are left
//     over with ringroad and 2 % with nginx, presumably while one of the three processes has all of the 64 requests. Machine CPU minus direct is 0.62x. Yielding the processor
//     after each small turn halves turns and kicks and takes 2 to 6 % of the CPU, and gains no requests (three runs, 0.98x to 1.01x).
//   - User-space CPU is 3.9 us (5 us) at 64 connections, nginx's 3.2. BenchmarkProxied, the same in memory, takes 2.9 us with what it needs in
//     the processor's caches and 4.7 to 5.2 us without, as a kick leaves them; it says what the lab cannot, whose runs differ by a fifth.
//   - 5,000 connections: p99 1.02x of nginx (1x), 0.50x in three other rounds.
//   - 64 KB answers, 0.88x (1x; 0.82x to 1.07x in other runs of the day), in one piece up 0.98x, in chunks 1.09x: both processors are busy. The
//     machine takes 339 us a request where nginx has it take 287, of which our user space is 47 and nginx's 5. Half of the worker's time is kicks: 49
//     frames in two calls, for each of which the kernel makes an sk_buff, copies the frame, and has the client's TCP take it inside the call.
//   - 1 MB down 0.81x (1x; 0.86x to 1.05x in other runs), up 1.12x: the same with more frames. The kicks of many frames are made by a thread beside the loop
//     (dataplane/sender_unsafe.go), as a worker was one busy process while the other processor had time left: 1.33x down and 1.16x up in a paired
//     run. The machine takes 4.6 ms for 1 MB down, 3.8 with nginx: 0.6 of these are our user space and 0.45
//     more are interrupts. Of the user space (BenchmarkRelay, 48 us less 12 of its own) 7 us are copies, 4.5 verifying and 2.5
//     computing checksums, 5 netstack's handling of segments, the rest headers, look-ups and its sender.
//   - 64 KB with offloads on: 0.27x of nginx, as fast as with offloads off. The kernel's TCP hands 64 KB to veth in one sk_buff;
//     AF_XDP knows frames of an MTU only, on both sides, and veth in native mode with a program takes no larger ones.
//
// On a slower machine (2026-11-27d) user space takes twice as long, nginx's too (7.7 us for a small request): 64 KB answers have 0.74x, of 422 us a
// request (nginx 313) 96 are our user space, and a connection of both sides takes 68 us of it (0.71x). Bodies are no more copied between the two
// connections there (stack's Conn.MoveTo) and their frames are summed as they are written: BenchmarkProxiedBody takes 10 to 20 % less, cold 1 MB up
// 1,287 -> 1,091 us, and the lab shows it in the proxy's CPU (1 MB: user space 1,168 -> 1,009 us in a pair) and not in requests. What did not pay
// there, in pairs of the lab: prefetching the frames that are peeked, setting fewer of them aside, fewer frames, the program in generic mode, huge pages
// for all of the worker (64 KB 1.08x for 10 MB more).
//
// A later build (2026-11-27e, two rounds of 1 s) has 0.83x with connections new on both sides (user space 60 -> 43 us in a pair with the build before),
// 64 KB answers 0.82x, 1 MB 0.82x. Of the 431 us that 64 KB take there nginx's would be 335, and 103 are our user space, nginx's 11. What is
// received is verified and copied in one pass, TX frames are written upwards and fetched ahead: 46 frames cold 18.8 -> 12.9 us written, 12.9 -> 9
// received, in one process; 64 KB up 119 -> 94 us of user space in a pair. UMEMs on huge pages: 5 % of user space at 64 connections for 3.5 MB more,
// nothing at 64 KB.
//
// The way to 3 us of user space: fewer turns, which cost 1.1 us with warm caches and up to 5 with cold ones (BenchmarkProxied by frames a turn:
// 3, 12, 32: 3.3, 2.9, 2.6 us warm, 6.4, 3.7, 3.0 cold). What was received read out of its frame, without segment, packet and view between:
// 0.25 us (an estimate from profiles). The receive queue and RTT have neither locks nor floating point any more (0.3 us of 3.9 warm).
//
// A connection cost 7.1 us of the stack (BenchmarkConnection, 11 allocations), one to a backend with what its peer does 17.6
// (BenchmarkDial, 32), before a connection took the handshake, the timer and the place in netstack's table of the one that the endpoint
// had before, and netstack no more reserved a port for it: 6 and 7 allocations since, and on the slower machine 14.2 -> 11.7 and 25.4 -> 20.8 us
// of CPU. A tenth of what is left is the FIN of the peer that goes through netstack's queue, another our FIN.
package main
