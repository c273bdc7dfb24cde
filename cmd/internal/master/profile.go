package master

import (
	"fmt"
	"io"
	"os"
	"time"

	"ringroad/cmd/internal/admin"
	"ringroad/cmd/internal/worker"
)

func (m *master) adminOptions() admin.Options {
	o := admin.Options{Addr: m.config.Admin, Source: m.snapshot, Log: m.log}
	if m.config.PProf {
		o.Profile = m.profile
	}
	return o
}

// profileGrace is how long a worker may take to write a profile.
const profileGrace = 10 * time.Second

// profile has a worker write a profile, for another goroutine. It comes out of r when
// it is complete.
func (m *master) profile(index int, p worker.Profile) (r io.ReadCloser, err error) {
	pipe, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe for a profile: %w", err)
	}
	defer theirs.Close()
	err = pipe.SetReadDeadline(time.Now().Add(time.Duration(p.Seconds)*time.Second + profileGrace))
	if err == nil {
		if ended := (commands{m}).call(func() {
			if index < 0 || index >= len(m.children) || m.children[index].state != stateServing {
				err = fmt.Errorf("worker %d does not serve", index)
				return
			}
			err = m.children[index].channel.Send(worker.Message{Kind: worker.MessageProfile, Profile: &p}, fdOf(theirs))
		}); ended != nil {
			err = ended
		}
	}
	if err != nil {
		pipe.Close() //nolint:errcheck // nothing was written
		return nil, err
	}
	return pipe, nil
}
