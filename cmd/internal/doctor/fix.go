package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"ringroad/cmd/internal/control"
	"ringroad/cmd/internal/restore"
)

// mendable is a finding that Fix mends by changing settings: those whose change
// takes no link down, and disturbs nobody else on this host.
func (r *Report) mendable(s Severity, check, subject, text string, changes ...restore.Change) {
	for i := range changes {
		changes[i].Fix = true
	}
	*r = append(*r, Finding{Severity: s, Check: check, Subject: subject, Text: text, Remedy: commands(changes), changes: changes})
}

// commands are what the changes equal, for a shell.
func commands(changes []restore.Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, c.Setting.Command(c.Interface, c.After))
	}
	return strings.Join(all, " && ")
}

// settings tells what ringroad has changed on devices and is to give back: an
// instance that runs does so at its end.
func (r *Report) settings(all []restore.Change, alive bool) {
	for _, c := range slices.Backward(all) { // in the order of undoing
		switch {
		case alive:
			r.ok("settings", c.Interface, "%s is %s until ringroad ends, then %s again", c.Setting, c.After, c.Before)
		case c.Fix:
			r.ok("settings", c.Interface, "%s is %s by `ringroad doctor --fix`, until the next ringroad ends or `ringroad doctor --undo`, then %s again", c.Setting, c.After, c.Before)
		default:
			*r = append(*r, Finding{
				Severity: Warning, Check: "settings", Subject: c.Interface, Remedy: c.Undone(), left: &c,
				Text: fmt.Sprintf("a ringroad that was killed has left %s as %s, it was %s; the next run restores it", c.Setting, c.After, c.Before),
			})
		}
	}
}

func (r *Report) findSettings(socket string, alive bool) {
	all, err := restore.Open(socket, restore.Kernel).Changes()
	switch {
	case errors.Is(err, fs.ErrPermission): // as the capabilities say
	case err != nil:
		r.add(Warning, "settings", "", err.Error(), "")
	default:
		r.settings(all, alive)
	}
}

// Fix mends what can be mended without harm: findings that were are Fixed, with the
// commands that it equals as their remedy; others say why not. What an instance
// that died has left is restored. Everything else is written into the journal of the
// control socket, and undone when the ringroad ends that runs there, or that will.
func (r Report) Fix(socket string) {
	journal := restore.Open(socket, restore.Kernel)
	r.restore(journal, socket)
	for i := range r {
		f := &r[i]
		if len(f.changes) == 0 {
			continue
		}
		var errs []error
		for _, c := range f.changes {
			_, _, err := journal.Set(c)
			errs = append(errs, err)
		}
		f.mended(errors.Join(errs...))
	}
}

func (f *Finding) mended(err error) {
	if err != nil {
		f.Text += fmt.Sprintf("; it could not be mended: %v", err)
		return
	}
	f.Severity = Fixed
}

// restore gives back what an instance that died has left, unless one has come
// meanwhile.
func (r Report) restore(journal *restore.Journal, socket string) {
	if !slices.ContainsFunc(r, func(f Finding) bool { return f.left != nil }) {
		return
	}
	dead := sync.OnceValue(func() bool { return !control.Answers(socket) })
	restored, err := journal.Undo(func(c restore.Change) bool { return !c.Fix && dead() })
	for i := range r {
		f := &r[i]
		switch {
		case f.left == nil:
		case !dead():
			f.mended(fmt.Errorf("a ringroad has started on %s", socket))
		case slices.Contains(restored, *f.left):
			f.mended(nil)
		case err != nil:
			f.mended(err)
		default:
			f.Severity, f.Remedy = OK, ""
			f.Text += "; somebody has changed it since: it stays as it is"
		}
	}
}

// Fixes reports whether settings were changed that are to be undone.
func (r Report) Fixes() bool {
	return slices.ContainsFunc(r, func(f Finding) bool { return f.Severity == Fixed && f.left == nil })
}

// Undo restores what Fix has changed, and what an instance that died has left. It
// refuses while one runs, which does so at its end.
func Undo(socket string) (restored []restore.Change, err error) {
	if control.Answers(socket) {
		return nil, fmt.Errorf("a ringroad runs on %s: it restores the settings when it ends", socket)
	}
	return restore.Open(socket, restore.Kernel).Undo(func(restore.Change) bool { return !control.Answers(socket) })
}
