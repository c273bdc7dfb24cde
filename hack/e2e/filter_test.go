package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
)

// refused dials and reports an error when the SYN was answered; the XDP program drops what the filter refuses.
func refused(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
	defer cancel()
	c, err := shared.Client.Dial(ctx, "tcp", address)
	if err == nil {
		return errors.Join(fmt.Errorf("%s was connected to", address), c.Close())
	}
	if timeout := net.Error(nil); !errors.As(err, &timeout) || !timeout.Timeout() {
		return fmt.Errorf("dial %s: %w, want no answer", address, err)
	}
	return nil
}

// TestFilter changes lists and limits at reload: what they refuse is dropped and counted, open connections of an allowed source go
// on, and a list that cannot be read changes nothing.
func TestFilter(t *testing.T) {
	list := filepath.Join(t.TempDir(), "deny")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var many strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&many, "100.64.%d.%d\n", i>>8, i&255)
	}
	write(many.String() + "10.1.0.0/24 # the client\n")
	r := start(t, bothFamilies+"filter: {deny_file: "+list+"}\n")
	before := stats(t, r)
	if err := refused(nginx4); err != nil {
		t.Error("denied by a file:", err)
	}
	client := httpClient(t, shared)
	mustGet(t, client, nginx6)
	if moved := stats(t, r).Moved(before); moved["interfaces.e0.verdicts.drop_denied"] == 0 {
		t.Errorf("nothing was counted: %v", moved)
	}
	if err := shared.Client.Ping(lab.EdgeToClient4, 5*time.Second); err != nil {
		t.Error("the kernel's traffic is filtered too:", err)
	}

	write("10.1.0.0/24\nexample.org\n")
	if out, err := r.Command(20*time.Second, "reload"); err == nil || !strings.Contains(out, "line 2") {
		t.Errorf("a list with a mistake was loaded: %v, %s", err, out)
	}
	if err := refused(nginx4); err != nil {
		t.Error("after a list with a mistake:", err)
	}

	write("10.1.0.0/24\n")
	mustReload(t, r, bothFamilies+"filter: {deny_file: "+list+", allow: [10.1.0.2], connection_rate: 1}\n")
	for range 10 { // more than the limit: an allowed source has none
		c, err := shared.Client.Dial(context.Background(), "tcp", nginx4)
		if err != nil {
			t.Fatal("allowed within what is denied:", err)
		}
		c.Close()
	}

	mustReload(t, r, bothFamilies+"filter: {connection_rate: 1, connection_burst: 3}\n")
	before = stats(t, r)
	mustGet(t, client, nginx6) // on the connection that is open
	open := 0
	for open < 100 && refused(nginx6) != nil {
		open++
	}
	moved := stats(t, r).Moved(before)
	if drops := moved["interfaces.e0.verdicts.drop_connection_rate"]; open < 2 || open == 100 || drops == 0 {
		t.Errorf("%d connections were opened before one was refused, %v SYNs dropped", open, drops)
	}
	if out, err := r.Command(20*time.Second, "status"); err != nil || !strings.Contains(out, "SYNs and 0 packets over a limit") {
		t.Errorf("status: %v\n%s", err, out)
	}
	mustReload(t, r, bothFamilies)
	mustGet(t, httpClient(t, shared), nginx4)
}

func mustGet(t *testing.T, c *http.Client, address string) {
	t.Helper()
	response, err := c.Get("http://" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body) // so that the connection stays open
	response.Body.Close()
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", address, response.Status, err)
	}
}
