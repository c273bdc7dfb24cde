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
