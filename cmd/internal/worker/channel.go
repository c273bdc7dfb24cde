package worker

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxMessageBytes bounds a message: a configuration with its error pages.
	maxMessageBytes = 64 << 20
	// maxMessageFiles is the kernel's limit of descriptors in one message
	// (SCM_MAX_FD).
	maxMessageFiles = 253
	// sendTimeout is how long the other side may leave a message unread.
	sendTimeout = 5 * time.Second
)

// Channel is one end of the socket between the master and a worker. It carries
// messages with descriptors. Any goroutine may Send; one at a time may Receive.
type Channel struct {
	conn *net.UnixConn
	mu   sync.Mutex // guards sending
}

// NewChannel makes the master's end, and the descriptor that the worker process
// inherits, which the caller closes once that has started.
func NewChannel() (*Channel, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make the socket to a worker: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "master")
	c, err := OpenChannel(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return c, theirs, nil
}

// OpenChannel makes an end of an inherited descriptor, which it closes.
func OpenChannel(f *os.File) (*Channel, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open the socket between master and worker: %w", err)
	}
	return &Channel{conn: c.(*net.UnixConn)}, nil
}

// Send sends a message; descriptors stay the caller's. It fails when the other side
// is gone, or does not read for long.
func (c *Channel) Send(m Message, fds ...int) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a message: %w", err)
	}
	if len(body) > maxMessageBytes || len(fds) > maxMessageFiles {
		return fmt.Errorf("send a message: %d bytes and %d descriptors are too much", len(body), len(fds))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	var head [4]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(body)))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := c.conn.WriteMsgUnix(head[:], rights, nil); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	if _, err := c.conn.Write(body); err != nil {
		return fmt.Errorf("send a message: %w", err)
	}
	return nil
}

// Receive waits for the next message. The files belong to the caller. io.EOF: the
// other side is gone.
func (c *Channel) Receive() (m Message, files []*os.File, err error) {
	var head [4]byte
	rights := make([]byte, unix.CmsgSpace(4*maxMessageFiles))
	n, k, _, _, err := c.conn.ReadMsgUnix(head[:], rights)
	if err != nil || n == 0 {
		return m, nil, closedOr(err)
	}
	if files, err = filesOf(rights[:k]); err != nil {
		return m, nil, err
	}
	if _, err = io.ReadFull(c.conn, head[n:]); err == nil {
		size := binary.BigEndian.Uint32(head[:])
		if size > maxMessageBytes {
			err = fmt.Errorf("receive a message: %d bytes are too much", size)
		} else {
			body := make([]byte, size)
			if _, err = io.ReadFull(c.conn, body); err == nil {
				err = json.Unmarshal(body, &m)
			}
		}
	}
	if err != nil {
		closeAll(files)
		return m, nil, closedOr(err)
	}
	return m, files, nil
}

// closedOr tells the end of the other side, however it shows, from a failure.
func closedOr(err error) error {
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

func filesOf(rights []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("receive descriptors: %w", err)
	}
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			closeAll(files)
			return nil, fmt.Errorf("receive descriptors: %w", err)
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() //nolint:errcheck // nothing was written
	}
}

// Close ends the channel; a Receive returns io.EOF.
func (c *Channel) Close() error { return c.conn.Close() }
