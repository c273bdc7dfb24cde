package dataplane

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/asavie/xdp"
	"golang.org/x/sys/unix"
)

// creation serialises making sockets: the bind flags are a global variable of asavie/xdp, and what a failed attempt
// leaves mapped is found by comparing the mappings before and after.
var creation sync.Mutex

// socketGeometry is what a socket is created with.
type socketGeometry struct {
	entries    int // of each ring, a power of two
	frames     int
	frameBytes int
	metadata   int // bytes that the UMEM has room for before the data of a frame that is sent; 0 or txMetadataBytes
}

// umemSocket is a socket with its UMEM and its rings.
type umemSocket struct {
	fd       int
	umem     []byte
	rings    map[int64][]byte // memory of the four by the page offset that it is mapped at (XDP_UMEM_PGOFF_FILL_RING)
	metadata int              // as in the geometry
	close    func() error     // gives all back
}

// newSocket creates a UMEM and a socket bound to the queue. It does not retry; a failed attempt leaves nothing
// behind. The error wraps the kernel's errno.
func newSocket(ifindex, queue int, g socketGeometry, bindFlags uint16) (*umemSocket, error) {
	if g.metadata > 0 {
		return newMetadataSocket(ifindex, queue, g, bindFlags)
	}
	creation.Lock()
	defer creation.Unlock()
	before, err := socketMappings()
	if err != nil {
		return nil, err
	}
	xdp.DefaultSocketFlags = bindFlags
	// asavie/xdp makes the descriptor without SOCK_CLOEXEC: no fork may come between.
	syscall.ForkLock.RLock()
	s, err := xdp.NewSocket(ifindex, queue, &xdp.SocketOptions{
		NumFrames: g.frames, FrameSize: g.frameBytes,
		FillRingNumDescs: g.entries, CompletionRingNumDescs: g.entries,
		RxRingNumDescs: g.entries, TxRingNumDescs: g.entries,
	})
	if err == nil {
		unix.CloseOnExec(s.FD())
	}
	syscall.ForkLock.RUnlock()
	if err == nil {
		rings, err := ringsOf(s.FD())
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		umem := s.GetFrame(xdp.Desc{Addr: 0, Len: uint32(g.frames * g.frameBytes)})
		return &umemSocket{s.FD(), umem, rings, 0, func() error { return closeSocket(s) }}, nil
	}
	err = withErrno(err)
	after, mapsErr := socketMappings()
	if mapsErr != nil {
		return nil, errors.Join(err, mapsErr)
	}
	for inode, maps := range after {
		if _, old := before[inode]; !old {
			err = errors.Join(err, unmap(maps))
		}
	}
	return nil, err
}

// ringsOf finds the memory of the rings that asavie/xdp mapped and shows to nobody. To map them a second time is allowed
// from Linux 6.4 on only ("xsk: allow remap of fill and/or completion rings"; before, xsk_mmap refuses bound sockets).
func ringsOf(fd int) (map[int64][]byte, error) {
	maps, err := mappingsOf(fd)
	if err != nil {
		return nil, err
	}
	rings := map[int64][]byte{}
	for _, m := range maps {
		rings[m.offset] = m.memory()
	}
	return rings, nil
}

// mappingsOf lists the mappings of a socket's rings.
func mappingsOf(fd int) ([]mapping, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("identify socket: %w", err)
	}
	maps, err := socketMappings()
	return maps[st.Ino], err
}

// closeSocket closes the socket and unmaps its rings, which [xdp.Socket.Close] leaves mapped: the mappings would hold
// the queue, and the pinned UMEM, until the process ends.
func closeSocket(s *xdp.Socket) error {
	creation.Lock()
	defer creation.Unlock()
	maps, err := mappingsOf(s.FD())
	return errors.Join(err, s.Close(), unmap(maps))
}

// socketErrnos are the errnos with which creating a socket is known to fail.
var socketErrnos = []unix.Errno{
	unix.EBUSY, unix.EPERM, unix.EACCES, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOBUFS, unix.ENOMEM, unix.ENODEV,
	unix.ENETDOWN, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT, unix.EAGAIN, unix.EMFILE, unix.ENFILE,
}

// withErrno wraps err with the errno whose text it ends in: asavie/xdp keeps only the text.
func withErrno(err error) error {
	for _, errno := range socketErrnos {
		if text, ok := strings.CutSuffix(err.Error(), errno.Error()); ok {
			return fmt.Errorf("%s%w", text, errno)
		}
	}
	return err
}

// mapping is a range of this process's address space.
type mapping struct {
	start, end uintptr
	offset     int64 // in what is mapped there
}

// socketMappings lists the mappings of AF_XDP rings by the socket's inode. An AF_XDP socket is told from other
// mapped sockets by its fill ring, whose page offset no other family uses.
func socketMappings() (map[uint64][]mapping, error) {
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		return nil, fmt.Errorf("list ring mappings: %w", err)
	}
	defer f.Close()
	return parseSocketMappings(f)
}

func parseSocketMappings(r io.Reader) (map[uint64][]mapping, error) {
	all, isXDP := map[uint64][]mapping{}, map[uint64]bool{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// 7f00-7f08 rw-s 100000000 00:08 12345    socket:[12345]
		f := strings.Fields(lines.Text())
		if len(f) != 6 || !strings.HasPrefix(f[5], "socket:[") {
			continue
		}
		from, to, _ := strings.Cut(f[0], "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		offset, err3 := strconv.ParseUint(f[2], 16, 64)
		inode, err4 := strconv.ParseUint(f[4], 10, 64)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return nil, fmt.Errorf("parse mapping %q: %w", lines.Text(), err)
		}
		all[inode] = append(all[inode], mapping{uintptr(start), uintptr(end), int64(offset)})
		isXDP[inode] = isXDP[inode] || offset == unix.XDP_UMEM_PGOFF_FILL_RING
	}
	for inode := range all {
		if !isXDP[inode] {
			delete(all, inode)
		}
	}
	return all, lines.Err()
}

func unmap(maps []mapping) error {
	for _, m := range maps {
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, m.start, m.end-m.start, 0); errno != 0 {
			return fmt.Errorf("unmap ring: %w", errno)
		}
	}
	return nil
}

// bindSocket is newSocket with patience: after an owner of the queue died the kernel keeps it for some tens of
// milliseconds more.
func bindSocket(ifindex, queue int, g socketGeometry, bindFlags uint16, patience time.Duration) (*umemSocket, error) {
	deadline := time.Now().Add(patience)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		s, err := newSocket(ifindex, queue, g, bindFlags)
		if !errors.Is(err, unix.EBUSY) || !time.Now().Add(pause).Before(deadline) {
			return s, err
		}
		time.Sleep(pause)
	}
}
