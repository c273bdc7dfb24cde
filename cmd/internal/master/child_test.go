package master

import (
	"testing"
	"testing/synctest"
	"time"

	"ringroad/cmd/internal/worker"
)

// TestAnswersThatComeTooLateAreNobodys has a worker answer two messages when the first was given up: as one does that stood still.
func TestAnswersThatComeTooLateAreNobodys(t *testing.T) {
	ours, theirs, err := worker.NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	other, err := worker.OpenChannel(theirs)
	if err != nil {
		t.Fatal(err)
	}
	c := &child{channel: ours, replies: make(chan reply, 1)}
	received := make(chan struct{})
	go new(master).receive(c, ours, c.replies, received)
	for _, kind := range []worker.Kind{worker.MessagePrepare, worker.MessageCapture} {
		if err := c.ask(worker.Message{Kind: kind}); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"of prepare, which nobody waits for", ""} {
		m, _, err := other.Receive()
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Send(worker.Message{Kind: worker.MessageReply, Number: m.Number, Error: text}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.answer(); err != nil {
		t.Errorf("the answer to the second message is that to the first: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	<-received
	if err := ours.Close(); err != nil {
		t.Error(err)
	}
}

// TestSilentWorkerIsWaitedForOnce has a worker that stands still take part in something, and then, since it did not, in nothing: the
// master could not replace it for twice the time.
func TestSilentWorkerIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &child{replies: make(chan reply, 1)}
		began := time.Now()
		for n := range 3 {
			c.asked++
			if err := c.answer(); err == nil {
				t.Errorf("question %d was answered", n)
			}
		}
		if waited := time.Since(began); waited != replyTimeout {
			t.Errorf("waited %v, want %v", waited, replyTimeout)
		}
	})
}
