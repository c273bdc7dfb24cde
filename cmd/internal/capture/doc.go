// Package capture shows the frames that pass the workers, which tcpdump cannot see:
// XDP takes them before, and AF_XDP sends them behind, where it looks.
//
// A capture is a feed (package feed). The worker's loop copies frames into its ring that
// the filter accepts ([Tap]). The master takes the rings' frames in the order of
// their times, and writes them as a pcapng file ([Session]; pcapng.go), which the
// control socket carries to the command. The command cuts that into files ([Files])
// or prints it ([Printer]). A worker that starts while there is a capture joins it.
//
// In the file each interface is a capture interface. A frame has the flags inbound or
// outbound, its queue, the verdict of the XDP program (received ones: redirect), and
// a comment that names its worker and what became of it there. Times are those at
// which the loop took the frame from its ring, or gave it to the kernel.
package capture
