package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// unavailable is the error of packages that cannot be had here, which is no fault of what is under test.
type unavailable struct{ error }

func (u unavailable) Unwrap() error { return u.error }

func unavailablef(format string, args ...any) error { return unavailable{fmt.Errorf(format, args...)} }

// archives says where the host gets Debian from, and of which release it is.
type archives struct {
	release string   // its code name
	uris    []string // of those that hold the release itself
}

// hostArchives asks the host's apt, whatever its lists are written in.
func hostArchives(ctx context.Context) (a archives, err error) {
	about, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return a, unavailablef("this is no Debian: %w", err)
	}
	vendor := ""
	for line := range strings.Lines(string(about)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch value = strings.Trim(value, `"`); key {
		case "ID":
			vendor = value
		case "VERSION_CODENAME":
			a.release = value
		}
	}
	if vendor != "debian" || a.release == "" {
		return a, unavailablef("this is not a release of Debian but %q", vendor)
	}
	out, err := output(ctx, "apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages")
	if err != nil {
		return a, unavailable{err}
	}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == a.release && f[1] == "main" && !slices.Contains(a.uris, f[2]) {
			a.uris = append(a.uris, f[2])
		}
	}
	if len(a.uris) == 0 {
		return a, unavailablef("apt has no source for %s main", a.release)
	}
	return a, nil
}

// aptRoot is an apt of our own: lists and caches in a directory, other suites than the host's, and nothing of the host's changed.
// Keys, proxies and what is installed are the host's.
type aptRoot struct {
	dir     string
	options []string
}

// newAptRoot makes one for some suites and fetches their lists.
func (a archives) newAptRoot(ctx context.Context, dir string, suites ...string) (*aptRoot, error) {
	for _, d := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return nil, err
		}
	}
	signed := ""
	if keyrings, _ := filepath.Glob("/usr/share/keyrings/debian-archive-keyring.*"); len(keyrings) > 0 { // the pattern is well formed
		signed = "[signed-by=" + keyrings[0] + "] "
	}
	var sources strings.Builder
	for _, uri := range a.uris {
		for _, suite := range suites {
			fmt.Fprintf(&sources, "deb %s%s %s main\n", signed, uri, suite)
		}
	}
	list := filepath.Join(dir, "sources.list")
	if err := os.WriteFile(list, []byte(sources.String()), 0o644); err != nil {
		return nil, err
	}
	r := &aptRoot{dir: dir}
	for _, o := range []string{
		"Dir::Etc::sourcelist=" + list, "Dir::Etc::sourceparts=/dev/null",
		"Dir::State=" + dir, "Dir::State::lists=" + filepath.Join(dir, "lists"), "Dir::State::status=/var/lib/dpkg/status",
		"Dir::Cache=" + filepath.Join(dir, "cache"), "Debug::NoLocking=true",
		"APT::Sandbox::User=root", // nobody else may read the cache folder
		"Acquire::Languages=none", "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
		"Acquire::Retries=2", "Acquire::http::Timeout=10", "Acquire::https::Timeout=10",
	} {
		r.options = append(r.options, "-o", o)
	}
	_, err := r.run(ctx, "apt-get", "--error-on=any", "update")
	return r, err
}

// run runs a program of apt. Its errors are those of packages that cannot be had.
func (r *aptRoot) run(ctx context.Context, program string, args ...string) (string, error) {
	out, err := output(ctx, program, slices.Concat([]string{"-qq"}, r.options, args)...)
	if err != nil {
		return "", unavailable{err}
	}
	return out, nil
}

// fetch downloads packages of a suite and those that they need and the host does not have, and returns their files.
func (r *aptRoot) fetch(ctx context.Context, suite string, names ...string) ([]string, error) {
	if _, err := r.run(ctx, "apt-get", append([]string{"install", "-y", "--no-install-recommends", "--download-only", "-t", suite}, names...)...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(r.dir, "cache/archives/*.deb"))
}

// fetchOnly downloads packages without what they need.
func (r *aptRoot) fetchOnly(ctx context.Context, names ...string) ([]string, error) {
	dir := filepath.Join(r.dir, "cache/archives")
	c := exec.CommandContext(ctx, "apt-get", slices.Concat([]string{"-qq"}, r.options, []string{"download"}, names)...)
	c.Dir = dir
	if _, err := outputOf(c); err != nil {
		return nil, unavailable{err}
	}
	return filepath.Glob(filepath.Join(dir, "*.deb"))
}

// needs returns the packages that a package depends on.
func (r *aptRoot) needs(ctx context.Context, name string) (needed []string, err error) {
	out, err := r.run(ctx, "apt-cache", "depends", name)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(strings.NewReader(out))
	for lines.Scan() {
		if n, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "Depends: "); ok {
			needed = append(needed, n)
		}
	}
	return needed, nil
}

// output runs a program and returns what it printed. The error of one that fails carries the end of what it complained of.
func output(ctx context.Context, name string, args ...string) (string, error) {
	return outputOf(exec.CommandContext(ctx, name, args...))
}

func outputOf(c *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	c.Stderr = &stderr
	c.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := c.Output()
	if err != nil {
		complaint := bytes.TrimSpace(stderr.Bytes())
		complaint = complaint[max(0, len(complaint)-600):]
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(c.Path), err, complaint)
	}
	return string(out), nil
}
