package e2e

import (
	"strings"
	"testing"

	"ringroad/hack/lab"
	"ringroad/hack/lab/failure"
)

// TestFailures plays every scenario of `make fail`, each in a lab of its own: it moves the counters that it should and no other that
// tells of a failure, hurts nobody else, and leaves nothing behind.
func TestFailures(t *testing.T) {
	for _, s := range failure.All() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel() // they mostly wait
			l, err := lab.Up(s.Lab())
			if err != nil {
				t.Fatal(err)
			}
			var told strings.Builder
			if err := failure.Run(l, binary, s, &told); err != nil {
				t.Errorf("%v\n%s", err, told.String())
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
