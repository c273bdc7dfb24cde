package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// resultsDir is where results are kept: in the tree that the working directory belongs to.
func resultsDir() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module's folder: %w", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "hack/bench/results"), nil
}

// keptBefore returns the result that was kept last before a run began; nil when there is none.
func keptBefore(dir string, run *report) (newest *report, name string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, "", err
	}
	for _, e := range entries {
		n, ok := strings.CutSuffix(e.Name(), ".json")
		if !ok {
			continue
		}
		r, err := readReport(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, "", err
		}
		if r.Started.Before(run.Started) && (newest == nil || r.Started.After(newest.Started)) {
			newest, name = r, n
		}
	}
	return newest, name, nil
}

func readReport(path string) (*report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := new(report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return r, nil
}

func (r *report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// keep writes the result and the page that shows it.
func (r *report) keep(dir, name string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, name)
	if err := r.writeJSON(path + ".json"); err != nil {
		return err
	}
	page, err := r.html()
	if err != nil {
		return fmt.Errorf("make the report's page: %w", err)
	}
	if err := os.WriteFile(path+".html", page, 0o644); err != nil {
		return err
	}
	fmt.Printf("\nkept as %s.json and .html\n", path)
	return nil
}

// show prints a result that was kept, and makes its page anew.
func show(dir, name string) error {
	r, err := readReport(filepath.Join(dir, name+".json"))
	if err != nil {
		return err
	}
	if r.before, r.beforeName, err = keptBefore(dir, r); err != nil {
		return err
	}
	r.print(os.Stdout)
	return r.keep(dir, name)
}
