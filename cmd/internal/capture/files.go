package capture

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"
)

// Summary is what became of the frames.
type Summary struct {
	Captured uint64 // frames in the capture
	Accepted uint64 // by the filter
	Dropped  uint64 // of them, because a ring was full
}

// Consumer takes what a session writes.
type Consumer interface {
	// Block is given every block in turn.
	Block(Block) error
	// Flush is called when nothing more has arrived yet.
	Flush() error
	Close() error
}

// Copy reads a session's stream to its end. started is called when the capture is on.
func Copy(to Consumer, from io.Reader, started func(links []string)) (s Summary, err error) {
	r := NewReader(from)
	var links []string
	for {
		b, err := r.Next()
		if err != nil {
			if err == io.EOF {
				err = nil
			}
			return s, err
		}
		switch b.kind() {
		case blockPacket:
			s.Captured++
		case blockInterface:
			links = append(links, linkName(b))
		case blockStatistics:
			b.options(12, func(code uint16, value []byte) {
				if len(value) != 8 {
					return
				}
				switch n := binary.LittleEndian.Uint64(value); code {
				case optionReceived:
					s.Accepted += n
				case optionDropped:
					s.Dropped += n
				}
			})
		}
		if err := to.Block(b); err != nil {
			return s, err
		}
		if !r.Buffered() {
			if started != nil && len(links) > 0 {
				started(links)
				started = nil
			}
			if err := to.Flush(); err != nil {
				return s, err
			}
		}
	}
}

// linkName is the name in an interface's block.
func linkName(b Block) (name string) {
	b.options(8, func(code uint16, value []byte) {
		if code == optionName {
			name = string(value)
		}
	})
	return name
}

// Files writes pcapng files. It begins a new one behind the limits.
type Files struct {
	Path    string        // "-": standard output
	Bytes   int64         // of a file; 0: no limit
	Every   time.Duration // of a file; 0: no limit
	Keep    int           // files, of which the oldest is overwritten; 0: all
	Stdout  io.Writer
	now     func() time.Time // nil: time.Now
	header  []byte           // what each file begins with
	packets bool             // some were written: the header is complete
	file    *os.File
	w       *bufio.Writer
	size    int64
	count   int // files begun
	until   time.Time
}

// Name is the name of a file, counted from 0: as with tcpdump, the second has 1
// behind it.
func (f *Files) Name(n int) string {
	if f.Keep > 0 {
		n %= f.Keep
	}
	if n == 0 {
		return f.Path
	}
	return f.Path + strconv.Itoa(n)
}

// Block implements Consumer.
func (f *Files) Block(b Block) error {
	if !f.packets && b.kind() != blockPacket && b.kind() != blockStatistics {
		f.header = append(f.header, b...)
	} else {
		f.packets = true
	}
	if f.w == nil {
		return f.begin(b)
	}
	if b.kind() == blockPacket && (f.Bytes > 0 && f.size+int64(len(b)) > f.Bytes && f.size > int64(len(f.header)) ||
		f.Every > 0 && !f.time().Before(f.until)) {
		if err := f.Close(); err != nil {
			return err
		}
		if err := f.begin(f.header); err != nil {
			return err
		}
	}
	return f.write(b)
}

// begin opens the next file.
func (f *Files) begin(first []byte) error {
	f.w, f.size = bufio.NewWriterSize(f.Stdout, 1<<16), 0
	if f.Path != "-" {
		// Bodies and cookies of strangers are in it.
		file, err := os.OpenFile(f.Name(f.count), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("write the capture: %w", err)
		}
		f.file = file
		f.w.Reset(file)
	}
	f.count++
	f.until = f.time().Add(f.Every)
	return f.write(first)
}

func (f *Files) time() time.Time {
	if f.now != nil {
		return f.now()
	}
	return time.Now()
}

func (f *Files) write(b []byte) error {
	f.size += int64(len(b))
	if _, err := f.w.Write(b); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// Flush implements Consumer.
func (f *Files) Flush() error {
	if f.w == nil {
		return nil
	}
	if err := f.w.Flush(); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}

// Close implements Consumer.
func (f *Files) Close() error {
	err := f.Flush()
	if f.file != nil {
		if closeErr := f.file.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("write the capture: %w", closeErr)
		}
		f.file = nil
	}
	return err
}
