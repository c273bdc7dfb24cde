package master

import (
	"fmt"
	"os"
	"sync"
)

// accessLog is the file of access lines. It can be opened anew under its name
// while it is written to, so that logs can be rotated: rename the file, then
// signal.
type accessLog struct {
	path string
	mu   sync.Mutex // the worker's log goroutine writes, the master reopens
	file *os.File
}

// openAccessLog returns nil for no path.
func openAccessLog(path string) (*accessLog, error) {
	if path == "" {
		return nil, nil
	}
	a := &accessLog{path: path}
	if err := a.reopen(); err != nil {
		return nil, err
	}
	return a, nil
}

// reopen opens the path and closes what was open before. On an error the old
// file stays in use.
func (a *accessLog) reopen() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return fmt.Errorf("open the access log: %w; make its folder, or set log.access to off", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.file
	a.file = f
	if old != nil {
		return old.Close()
	}
	return nil
}

// Write implements io.Writer.
func (a *accessLog) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.file.Write(b)
}

// Close closes the file. Nobody may write any more.
func (a *accessLog) Close() error { return a.file.Close() }
