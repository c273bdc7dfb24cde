package failure

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"ringroad/hack/lab"
)

const (
	startLimit = 10 * time.Second
	stopLimit  = 5 * time.Second
)

// Run plays a scenario in a lab made with its options, and tells on out how it goes. Its error says all that was not as it should be.
func Run(l *lab.Lab, binary string, sc *Scenario, out io.Writer) error {
	p := newShow(out, sc)
	r, err := l.StartRingroad(binary, sc.configuration())
	if err != nil {
		return err
	}
	s := &Stage{Lab: l, Ringroad: r, scenario: sc, backend: newPretender(l), show: p}
	defer s.backend.close()
	err = s.play()
	s.leave()
	if !r.Stop(stopLimit) {
		err = errors.Join(err, fmt.Errorf("ringroad had to be killed: it did not end within %v of SIGTERM", stopLimit))
	}
	if err != nil {
		return fmt.Errorf("%s: %w\nringroad printed:\n%s", sc.Name, err, r.Output())
	}
	return nil
}

func (s *Stage) play() (err error) {
	if err := s.prepare(); err != nil {
		return err
	}
	err = s.scenario.Play(s)
	s.show.say("the cause is gone")
	s.leave()
	if err == nil {
		err = s.recover()
	}
	if e := s.bystander.end(); e != nil {
		return errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	s.show.say("all %d requests of somebody else were answered", s.bystander.asked.Load())
	return s.settle()
}

// prepare waits until everything serves, and takes the first reading.
func (s *Stage) prepare() error {
	if err := s.Ringroad.WaitReady(startLimit); err != nil {
		return err
	}
	if err := s.backend.open(); err != nil {
		return err
	}
	if err := s.once(door, http.StatusOK); err != nil {
		return fmt.Errorf("before the failure: %w", err)
	}
	var err error
	if s.bystander, err = s.newBystander(); err != nil {
		return fmt.Errorf("before the failure: %w", err)
	}
	if _, err := s.bystander.goOn(); err != nil {
		return fmt.Errorf("before the failure: the bystander: %w", err)
	}
	// The counters of the first request show within a tenth of a second.
	if err := s.level("client_sent_bytes_total", float64(len(hello))); err != nil {
		return err
	}
	if s.before, err = scrape(s.Lab); err != nil {
		return err
	}
	names := slices.Concat(alarms, s.show.metrics, s.scenario.May)
	if missing := s.before.missing(names); len(missing) > 0 {
		return fmt.Errorf("there is no metric %s", strings.Join(missing, ", "))
	}
	s.show.table("all is well", s.before, s.before)
	return nil
}

// recover waits until the listener that suffered answers again.
func (s *Stage) recover() error {
	s.backend.set(answers)
	if err := s.backend.open(); err != nil {
		return err
	}
	began := time.Now()
	err := await("the listener answers again", func() (bool, string, error) {
		err := s.once(door, http.StatusOK)
		return err == nil, fmt.Sprint(err), nil
	})
	if err == nil {
		s.show.say("the listener that suffered answers again, after %v", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// settle waits until nothing is left of anybody, and holds the alarms against the scenario.
func (s *Stage) settle() error {
	var now reading
	err := await("nothing is left", func() (bool, string, error) {
		var err error
		if now, err = scrape(s.Lab); err != nil {
			return false, "", err
		}
		left := now.rest()
		return left == "", left, nil
	})
	s.show.table("everybody has left", now, s.before)
	if err != nil {
		return err
	}
	for _, name := range now.moved(s.before) {
		if !slices.Contains(s.scenario.Moves, name) && !slices.Contains(s.scenario.May, name) {
			err = errors.Join(err, fmt.Errorf("%s moved by %.0f, which this failure is not to do", name, now[name]-s.before[name]))
		}
	}
	return err
}
