//go:build cgo

package sandbox_test

import (
	"errors"
	"testing"

	"ringroad/cmd/internal/sandbox"
)

// A test binary contains C code, which is what is refused here, before anything has changed.
func TestCgoIsRefused(t *testing.T) {
	if err := sandbox.Enter(sandbox.Options{}); !errors.Is(err, sandbox.ErrCgo) {
		t.Errorf("Enter: %v", err)
	}
	if err := sandbox.Pin(0); !errors.Is(err, sandbox.ErrCgo) {
		t.Errorf("Pin: %v", err)
	}
}
