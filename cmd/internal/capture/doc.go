// Package capture shows the frames that pass the workers, which tcpdump cannot see:
// XDP takes them before, and AF_XDP sends them behind, where it looks.
//
// A capture has a ring in shared memory for each worker (ring.go). The worker's loop
// copies frames into it that its filter accepts ([Tap]); it never waits: what finds
// no room is counted and lost. The master takes the rings' frames in the order of
// their times, and writes them as a pcapng file ([Stream]; pcapng.go), which the
// control socket carries to the command. The command cuts that into files ([Files])
// or prints it ([Printer]).
//
// Nothing wakes the master when frames come: it looks every few milliseconds, and
// only while there is a capture. A worker that starts while there is one joins it.
//
// In the file each interface is a capture interface. A frame has the flags inbound or
// outbound, its queue, the verdict of the XDP program (received ones: redirect), and
// a comment that names its worker and what became of it there. Times are those at
// which the loop took the frame from its ring, or gave it to the kernel.
package capture
