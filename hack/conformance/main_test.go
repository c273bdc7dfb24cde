package conformance

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"testing"
	"time"
)

// TestMain runs the tests and looks for goroutines that they leave: of the worker, of
// netstack, or of the peers.
func TestMain(m *testing.M) {
	before := runtime.NumGoroutine()
	code := m.Run()
	for end := time.Now().Add(patience); code == 0 && runtime.NumGoroutine() > before; time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "%d goroutines left behind the tests, %d before:\n", runtime.NumGoroutine(), before)
			_ = pprof.Lookup("goroutine").WriteTo(os.Stderr, 1) // fails like the line above
			code = 1
		}
	}
	os.Exit(code)
}
