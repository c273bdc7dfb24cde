package config

import "reflect"

// Fixed returns the paths of the keys that no reload can change and that differ
// in other, in the order of the table; nil when a process that runs with c can go
// on with other.
func (c *Config) Fixed(other *Config) (differ []string) {
	values := make(map[string]any)
	other.visit(func(path string, k *key, p any) {
		if k.fixed {
			values[path] = p
		}
	})
	c.visit(func(path string, k *key, p any) {
		if k.fixed && !reflect.DeepEqual(p, values[path]) {
			differ = append(differ, path)
		}
	})
	return differ
}

// KeepFixed gives the keys that no reload can change the values that are in use.
// It is for a configuration that nobody else has yet.
func (c *Config) KeepFixed(used *Config) {
	for i := range table {
		if k := &table[i]; k.fixed && k.at != nil {
			to, from := reflect.ValueOf(k.at(&scope{config: c})), reflect.ValueOf(k.at(&scope{config: used}))
			to.Elem().Set(from.Elem())
		}
	}
}
