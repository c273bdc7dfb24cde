package proxy

import (
	"reflect"
	"regexp"
	"testing"

	"ringroad/stack"
)

func TestEveryCounterIsDescribed(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[string]bool{}
	for f := range reflect.TypeFor[Stats]().Fields() {
		n := f.Tag.Get("name")
		k := f.Tag.Get("kind")
		want := reflect.TypeFor[uint64]()
		if k == "histogram" {
			want = reflect.TypeFor[stack.Histogram]()
		}
		if f.Type != want || !name.MatchString(n) || seen[n] || f.Tag.Get("unit") == "" || f.Tag.Get("help") == "" {
			t.Errorf("%s: needs a name of its own, a unit and a help text, and to be a %v", f.Name, want)
		}
		if k != "counter" && k != "gauge" && k != "histogram" {
			t.Errorf("%s: kind %q", f.Name, k)
		}
		seen[n] = true
	}
}
