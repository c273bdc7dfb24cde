package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/coreos/go-systemd/v22/unit"
)

const file = "ringroad.service"

// options reads the unit and returns the values of each key by section.key.
func options(t *testing.T) map[string][]string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	list, err := unit.DeserializeOptions(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, o := range list {
		key := o.Section + "." + o.Name
		if values[key] != nil {
			t.Errorf("%s is there twice", key)
		}
		values[key] = strings.Fields(o.Value)
	}
	return values
}

func TestUnitSaysWhatTheCodeNeeds(t *testing.T) {
	values := options(t)
	for key, want := range map[string]string{
		"Service.Type":                    "notify",
		"Service.NotifyAccess":            "main",
		"Service.KillMode":                "mixed",
		"Service.KillSignal":              "SIGQUIT",
		"Service.OOMPolicy":               "continue",
		"Service.LimitMEMLOCK":            "infinity",
		"Service.NoNewPrivileges":         "yes",
		"Service.ProtectSystem":           "strict",
		"Service.SystemCallArchitectures": "native",
		"Service.ExecReload":              "/usr/local/bin/ringroad reload",
		"Service.RuntimeDirectory":        "ringroad", // of the control socket, /run/ringroad/control.sock
		"Install.WantedBy":                "multi-user.target",

		"Service.RuntimeDirectoryPreserve": "yes", // what is to be restored is there
	} {
		if got := strings.Join(values[key], " "); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	for key, want := range map[string][]string{
		"Service.CapabilityBoundingSet": {"CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_BPF", "CAP_PERFMON",
			"CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_KILL"},
		"Service.RestrictAddressFamilies": {"AF_XDP", "AF_NETLINK", "AF_UNIX", "AF_INET", "AF_INET6"},
	} {
		got := values[key]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
}

// TestSystemdAcceptsTheUnit runs systemd's own checks, where it is installed.
func TestSystemdAcceptsTheUnit(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd is not installed: TestUnitSaysWhatTheCodeNeeds has parsed the unit")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	// It wants the program and the documentation to be there.
	binary, err := exec.LookPath("true")
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(t.TempDir(), file)
	text := strings.NewReplacer("/usr/local/bin/ringroad", binary).Replace(string(b))
	if err := os.WriteFile(copied, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(analyze, "verify", "--man=no", copied).CombinedOutput()
	if err != nil || strings.Contains(string(out), copied) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	// The exposure is between 0 and 100 (in tenths); services without any of this have about 95.
	const threshold = "35"
	out, err = exec.Command(analyze, "security", "--offline=yes", "--no-pager", "--threshold="+threshold, copied).CombinedOutput()
	if err != nil {
		t.Errorf("the unit is more exposed than %s: %v\n%s", threshold, err, out)
	}
}
