package main

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

// module is a kernel module, ready to be loaded.
type module struct {
	name    string
	content []byte
}

// modules returns kernel modules with all that they need, in the order to load them in. Names that the kernel has no module for are
// taken for built in.
func (k kernel) modules(ctx context.Context, names ...string) (ordered []module, err error) {
	paths := map[string]string{}
	err = filepath.WalkDir(k.dir, func(path string, _ fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(strings.TrimSuffix(filepath.Base(path), ".xz"), ".ko"); err == nil && ok {
			paths[moduleName(name)] = path
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	var load func(name string) error
	load = func(name string) error {
		path, ok := paths[name]
		if !ok || slices.ContainsFunc(ordered, func(m module) bool { return m.name == name }) {
			return nil
		}
		content, err := output(ctx, "xz", "-dcf", path) // of Debian 12 they are not packed, and with f pass as they are
		if err != nil {
			return fmt.Errorf("unpack module %s: %w", name, err)
		}
		needed, err := moduleNeeds([]byte(content))
		if err != nil {
			return fmt.Errorf("read module %s: %w", name, err)
		}
		for _, n := range needed {
			if err := load(n); err != nil {
				return err
			}
		}
		ordered = append(ordered, module{name, []byte(content)})
		return nil
	}
	for _, n := range names {
		if err := load(n); err != nil {
			return nil, err
		}
	}
	return ordered, nil
}

// moduleName is a module's name as others refer to it, whose file may have hyphens.
func moduleName(file string) string { return strings.ReplaceAll(file, "-", "_") }

// moduleNeeds reads the names in "depends=" of a module's .modinfo section.
func moduleNeeds(content []byte) (names []string, err error) {
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if list, ok := bytes.CutPrefix(entry, []byte("depends=")); ok && len(list) > 0 {
			for n := range strings.SplitSeq(string(list), ",") {
				names = append(names, moduleName(n))
			}
		}
	}
	return names, nil
}
