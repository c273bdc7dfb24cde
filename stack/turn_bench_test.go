package stack_test

import (
	"testing"

	"ringroad/stack/stacktest"
)

// BenchmarkTurn is a turn of the loop that finds nothing.
func BenchmarkTurn(b *testing.B) {
	n := stacktest.New(b, nil)
	for b.Loop() {
		n.Stack.Turn()
		n.Stack.Flush()
	}
}
