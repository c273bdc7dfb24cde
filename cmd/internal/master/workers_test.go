package master

import (
	"slices"
	"testing"

	"ringroad/proxy/config"
)

func TestWorkersArePinnedWhereThatCannotHurt(t *testing.T) {
	for name, c := range map[string]struct {
		text    string
		workers int
		allowed []int
		want    []int // nil: refused
	}{
		"fewer workers than CPUs":   {"", 1, []int{0, 1}, []int{-1}},
		"one for each CPU":          {"", 2, []int{2, 5}, []int{2, 5}},
		"two for each CPU":          {"", 4, []int{2, 5}, []int{2, 5, 2, 5}},
		"uneven":                    {"", 3, []int{0, 1}, []int{-1, -1, -1}},
		"fewer that spin":           {"wait: spin\n", 1, []int{3, 4}, []int{3}},
		"fewer that busy-poll":      {"busy_poll: 64\n", 1, []int{3, 4}, []int{3}},
		"more than CPUs that spin":  {"wait: spin\n", 3, []int{3, 4}, []int{-1, -1, -1}},
		"off":                       {"cpu_affinity: off\nwait: spin\n", 2, []int{0, 1}, []int{-1, -1}},
		"a list":                    {"cpu_affinity: [4, 3]\n", 3, []int{3, 4}, []int{4, 3, 4}},
		"a list with a foreign CPU": {"cpu_affinity: [4, 9]\n", 2, []int{3, 4}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			parsed, err := config.Parse("test", []byte("interfaces: [e0]\nlisteners: [{address: \"0.0.0.0:80\", upstream: u}]\nupstreams: {u: {servers: [\"10.2.0.2:80\"]}}\n"+c.text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := cpus(parsed, c.workers, c.allowed)
			if (err != nil) != (c.want == nil) || !slices.Equal(got, c.want) {
				t.Errorf("got %v, error %v; want %v", got, err, c.want)
			}
		})
	}
}
