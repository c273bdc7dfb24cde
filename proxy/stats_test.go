package proxy

import (
	"reflect"
	"regexp"
	"testing"
)

func TestEveryCounterIsDescribed(t *testing.T) {
	name := regexp.MustCompile(`^[a-z][a-z0-9_]*$`)
	seen := map[string]bool{}
	for f := range reflect.TypeFor[Stats]().Fields() {
		n := f.Tag.Get("name")
		if f.Type.Kind() != reflect.Uint64 || !name.MatchString(n) || seen[n] || f.Tag.Get("unit") == "" || f.Tag.Get("help") == "" {
			t.Errorf("%s: needs a name of its own, a unit and a help text, and to be a uint64", f.Name)
		}
		if k := f.Tag.Get("kind"); k != "counter" && k != "gauge" {
			t.Errorf("%s: kind %q", f.Name, k)
		}
		seen[n] = true
	}
}
