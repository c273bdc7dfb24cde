package stack_test

import (
	"math/rand/v2"
	"testing"

	"ringroad/stack"
)

func TestUnlockedFunctionsDoWhatThoseOfNetstackDo(t *testing.T) {
	var c *stack.Conn
	p := puppetOf(t, false, false, func(_ *loop, e stack.Event) {
		if ln, ok := e.Data.(*stack.Listener); ok {
			c, _ = ln.Accept()
		}
	})
	p.connect()
	p.l.eventually("accepted", func() bool { return c != nil })
	p.l.do(func() {
		if err := c.CompareUnlocked(rand.New(rand.NewPCG(1, 2)), 20000); err != nil {
			t.Error(err)
		}
	})
}
