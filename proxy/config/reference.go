package config

import (
	"fmt"
	"strings"
)

//go:generate go test -run TestReference -write .

// Reference returns the reference of all keys as Markdown: what README.md holds
// between its two configuration reference markers.
func Reference() string {
	var b strings.Builder
	b.WriteString(`Sizes are bytes, or a number with KiB, MiB or GiB (k, m, g are the same). Durations
need a unit: 100ms, 5s, 10m, 1h30m. ` + "`[]`" + ` stands for each element of a list, ` + "`NAME`" + `
for a name of your choice. Keys marked (fixed) belong to sockets, rings or processes,
which take a value once, when they start. Unknown keys are errors.

| Key | Type | Default | Range | Meaning |
|---|---|---|---|---|
`)
	for i := range table {
		k := &table[i]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", k.nameCell(), k.typeCell(), k.defaultCell(), k.rangeCell(), strings.ReplaceAll(k.about, "|", `\|`))
	}
	return b.String()
}

func (k *key) nameCell() string {
	name := code(k.path)
	if k.fixed {
		name += " (fixed)"
	}
	if k.flag != "" {
		name += ", " + code("--"+k.flag)
	}
	return name
}

func (k *key) typeCell() string {
	switch {
	case k.kind == section && strings.HasSuffix(k.path, "[]"):
		return "list of sections"
	case strings.HasSuffix(k.path, "[]"):
		return "list: " + string(k.kind)
	case k.unit != "":
		return fmt.Sprintf("%s (%s)", k.kind, k.unit)
	}
	return string(k.kind)
}

func (k *key) defaultCell() string {
	switch {
	case k.def != "":
		return code(k.def)
	case k.need:
		return "required"
	}
	return "none"
}

func (k *key) rangeCell() string {
	var parts []string
	for _, v := range k.values {
		parts = append(parts, code(v))
	}
	switch {
	case k.min != "" && k.min == k.max:
		parts = append(parts, code(k.min))
	case k.min != "" && k.max != "":
		parts = append(parts, code(k.min)+" to "+code(k.max))
	case k.min != "":
		parts = append(parts, "from "+code(k.min))
	}
	return strings.Join(parts, ", ")
}

func code(s string) string { return "`" + s + "`" }
