package stack_test

import (
	"math/rand/v2"
	"testing"
)

func TestUnlockedFunctionsDoWhatThoseOfNetstackDo(t *testing.T) {
	p, c := accepted(t)
	p.l.do(func() {
		if err := c.CompareUnlocked(rand.New(rand.NewPCG(1, 2)), 20000); err != nil {
			t.Error(err)
		}
	})
}
