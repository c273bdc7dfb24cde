package master

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"ringroad/cmd/internal/worker"
)

// writeStats replaces the file in one step, so that a reader never sees half.
func writeStats(path string, s worker.Snapshot) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode statistics: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the write error says more
	}
	return err
}
