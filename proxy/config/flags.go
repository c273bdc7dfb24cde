package config

import (
	"errors"
	"fmt"
	"strings"
)

// Flags holds the values of the flags of `run` and `check`, as given.
type Flags struct {
	File       string   // name of a configuration file; "": none
	Interfaces []string // each value of --interface
	Listen     []string // each value of --listen
	Backends   []string // each value of --backend
	LogLevel   string   // value of --log-level; "": not given
	Admin      string   // value of --admin; "": not given
}

// ErrFlags is in the error of Load where flags contradict one another: a mistake
// in the command line, not in a configuration.
var ErrFlags = errors.New("flags contradict one another")

// upstreamOfFlags is the name of the one upstream that --backend fills.
const upstreamOfFlags = "default"

// FlagSet is what Register needs of a set of flags; that of spf13/pflag has it.
type FlagSet interface {
	StringVarP(p *string, name, shorthand, value, usage string)
	StringVar(p *string, name, value, usage string)
	StringArrayVar(p *[]string, name string, value []string, usage string)
}

// Register adds the flags that f holds to a command.
func (f *Flags) Register(set FlagSet) {
	set.StringVarP(&f.File, "config", "c", "", "read the configuration from `FILE`")
	for i := range table {
		switch k := &table[i]; k.flag {
		case "":
		case "interface":
			set.StringArrayVar(&f.Interfaces, k.flag, nil, k.usage)
		case "listen":
			set.StringArrayVar(&f.Listen, k.flag, nil, k.usage)
		case "backend":
			set.StringArrayVar(&f.Backends, k.flag, nil, k.usage)
		case "admin":
			set.StringVar(&f.Admin, k.flag, "", k.usage)
		case "log-level":
			set.StringVar(&f.LogLevel, k.flag, "", k.usage)
		default:
			panic("no place for flag " + k.flag) // the table has one that Flags lacks: TestTable
		}
	}
}

// Load makes a configuration of a file, of flags, or of both. Beside a file,
// --interface, --admin and --log-level replace what the file says, so that one file can
// serve hosts that differ in these; --listen and --backend are refused there,
// because nobody could tell whether they add to the file or replace a part of
// it. The error is an Errors for what is wrong in the configuration, or that of
// reading the file.
func (f Flags) Load() (*Config, error) {
	if f.File == "" {
		c := Default()
		c.origin.flags = true
		return c.finish(f.apply(c))
	}
	var refused Errors
	if len(f.Listen) > 0 {
		refused = append(refused, conflict("--listen"))
	}
	if len(f.Backends) > 0 {
		refused = append(refused, conflict("--backend"))
	}
	if len(refused) > 0 {
		return nil, refused
	}
	src, err := read(f.File)
	if err != nil {
		return nil, err
	}
	c, bad := parse(f.File, src)
	if c != nil {
		bad = append(bad, f.apply(c)...)
	}
	return c.finish(bad)
}

func conflict(flag string) *Error {
	return &Error{Position: Position{Flag: flag}, err: ErrFlags, Message: "cannot stand beside --config: listeners and upstreams are in the file"}
}

// apply puts the flags into c.
func (f Flags) apply(c *Config) (bad Errors) {
	d := decoder{c: c}
	if len(f.Interfaces) > 0 {
		c.Interfaces = nil
		for i, text := range f.Interfaces {
			if !d.flag("interfaces[]", fmt.Sprintf("interfaces[%d]", i), text, &scope{config: c}) {
				appendZero(&c.Interfaces)
			}
		}
	}
	for _, text := range f.Listen {
		for _, a := range bothFamilies(text) {
			n := len(c.Listeners)
			c.Listeners = append(c.Listeners, Listener{Routes: []Route{{Upstream: upstreamOfFlags, direct: true}}})
			s := &scope{config: c, listener: &c.Listeners[n]}
			setDefaults("listeners[].", s)
			if !d.flag("listeners[].address", fmt.Sprintf("listeners[%d].address", n), a, s) {
				break // the other family would say the same
			}
		}
	}
	if len(f.Backends) > 0 {
		c.Upstreams = []Upstream{{Name: upstreamOfFlags}}
		s := &scope{config: c, upstream: &c.Upstreams[0]}
		setDefaults("upstreams.NAME.", s)
		for i, text := range f.Backends {
			if !d.flag("upstreams.NAME.servers[]", fmt.Sprintf("upstreams.%s.servers[%d]", upstreamOfFlags, i), text, s) {
				appendZero(&s.upstream.Servers)
			}
		}
	}
	if f.LogLevel != "" {
		d.flag("log.level", "log.level", f.LogLevel, &scope{config: c})
	}
	if f.Admin != "" {
		d.flag("admin", "admin", f.Admin, &scope{config: c})
	}
	return d.bad
}

// bothFamilies returns the addresses that a value of --listen stands for:
// ":80" is every address of both families.
func bothFamilies(text string) []string {
	if port, ok := strings.CutPrefix(text, ":"); ok && digits.MatchString(port) {
		return []string{"0.0.0.0" + text, "[::]" + text}
	}
	return []string{text}
}

// flag reads the value of a flag as the value of the key at path, and tells
// whether it could.
func (d *decoder) flag(row, path, text string, s *scope) bool {
	k := rowOf(row)
	at := Position{Flag: "--" + k.flag}
	d.c.origin.at[path] = at
	bad := k.set(k.at(s), text)
	if bad != nil {
		d.bad = append(d.bad, &Error{Position: at, Key: path, Message: bad.message, Nearest: bad.nearest})
	}
	return bad == nil
}

func rowOf(path string) *key {
	for i := range table {
		if table[i].path == path {
			return &table[i]
		}
	}
	panic("no key " + path) // a path of this file that the table lacks: TestTable
}
