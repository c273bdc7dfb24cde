package worker

import (
	"os"
	"sync"
)

// logFile is the file of access lines, which the master may replace while it is
// written to: logs are rotated by renaming the file and opening a new one.
type logFile struct {
	mu   sync.Mutex // the log's goroutine writes, the loop swaps
	file *os.File
}

// swap writes to f from now on.
func (l *logFile) swap(f *os.File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.file.Close() //nolint:errcheck // its lines were handed to the kernel one by one
	l.file = f
}

// Write implements io.Writer.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.file.Write(b)
}
