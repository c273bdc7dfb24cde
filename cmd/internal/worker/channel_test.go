package worker

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// pair makes a channel between two ends in this process.
func pair(t *testing.T) (master, worker *Channel) {
	t.Helper()
	master, theirs, err := NewChannel()
	if err != nil {
		t.Fatal(err)
	}
	if worker, err = OpenChannel(theirs); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []*Channel{master, worker} {
			c.Close() //nolint:errcheck // perhaps closed already
		}
	})
	return master, worker
}

func TestChannelCarriesMessagesAndDescriptors(t *testing.T) {
	master, worker := pair(t)
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Larger than what the socket holds, so that it goes in pieces.
	page := []byte(strings.Repeat("page ", 1<<20))
	sent := make(chan error, 1)
	go func() {
		if err := master.Send(Message{Kind: MessagePrepare, Reload: &Reload{Config: "a: b", Pages: map[string][]byte{"p": page}}}); err != nil {
			sent <- err
			return
		}
		sent <- master.Send(Message{Kind: MessageAccessLog}, int(f.Fd()), int(f.Fd()))
	}()
	m, files, err := worker.Receive()
	if err != nil || m.Kind != MessagePrepare || m.Reload.Config != "a: b" || string(m.Reload.Pages["p"]) != string(page) || len(files) != 0 {
		t.Fatalf("first: %q, %d files, %v", m.Kind, len(files), err)
	}
	m, files, err = worker.Receive()
	if err != nil || m.Kind != MessageAccessLog || len(files) != 2 {
		t.Fatalf("second: %q, %d files, %v", m.Kind, len(files), err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if _, err := files[1].WriteString("x"); err != nil {
		t.Error(err)
	}
	closeAll(files)
	if b, err := os.ReadFile(f.Name()); err != nil || string(b) != "x" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

func TestChannelTellsTheEndOfTheOtherSide(t *testing.T) {
	master, worker := pair(t)
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := worker.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("receive: %v, want EOF", err)
	}
	if err := worker.Send(Message{Kind: MessageReply}); err == nil {
		t.Error("sending to nobody succeeds")
	}
}

func TestChannelRefusesWhatCannotBeAMessage(t *testing.T) {
	for name, bytes := range map[string]string{"too long": "\xff\xff\xff\xff{}", "not JSON": "\x00\x00\x00\x02{{"} {
		t.Run(name, func(t *testing.T) {
			master, worker := pair(t)
			if _, err := master.conn.Write([]byte(bytes)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := worker.Receive(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("received, %v", err)
			}
		})
	}
}
