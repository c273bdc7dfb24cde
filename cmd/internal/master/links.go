package master

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"ringroad/cmd/internal/worker"
	"ringroad/dataplane"
)

// linkView is an interface as it was seen last.
type linkView struct {
	state     dataplane.LinkState
	addresses []netip.Prefix
	since     time.Time // of the carrier, or of its loss
}

// own lists the addresses by which clients can reach the interface.
func (l *linkView) own() (own []netip.Addr) {
	for _, p := range l.addresses {
		if !p.Addr().IsLinkLocalUnicast() {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own
}

// working reports whether frames can come and go.
func working(s dataplane.LinkState) bool { return s.Up && s.Carrier }

// watchLinks looks at every interface, and listens for changes from before that.
func (m *master) watchLinks() (err error) {
	var indexes []int
	for _, i := range m.interfaces {
		indexes = append(indexes, i.Index())
	}
	if m.events, err = dataplane.NewLinkEvents(indexes...); err != nil {
		return err
	}
	m.links = make([]linkView, len(m.interfaces))
	for k := range m.interfaces {
		if m.links[k], err = m.look(k); err != nil {
			return err
		}
		if s := m.links[k].state; !s.Carrier {
			m.log.Warn("the interface has no carrier: nothing arrives until it has", "interface", s.Name)
		}
	}
	return nil
}

func (m *master) look(k int) (l linkView, err error) {
	l.since = time.Now()
	if l.state, err = m.interfaces[k].State(); err != nil {
		return l, err
	}
	if l.addresses, err = m.interfaces[k].Addresses(); err != nil {
		return l, fmt.Errorf("read the addresses of %s: %w", l.state.Name, err)
	}
	slices.SortFunc(l.addresses, netip.Prefix.Compare)
	return l, nil
}

// followLinks goes along with what became of the interfaces. Of a lost carrier it
// only tells: the rings outlive it, and TCP sends again what was lost.
func (m *master) followLinks() {
	for k := range m.interfaces {
		if m.ending != endNot {
			return
		}
		next, err := m.look(k)
		switch {
		case errors.Is(err, dataplane.ErrInterfaceGone):
			m.fail(fmt.Errorf("%w: it was removed, or moved to another network namespace; start ringroad again when it is back", err))
		case err != nil:
			m.log.Error("cannot follow an interface", "error", err) // the next look is in a second
		default:
			m.followLink(k, next)
		}
	}
}

func (m *master) followLink(k int, next linkView) {
	last := m.links[k]
	if working(next.state) == working(last.state) {
		next.since = last.since
	}
	m.links[k] = next
	was, is := last.state, next.state
	if was.Name != is.Name {
		m.log.Warn("an interface was renamed: change the configuration before the next start", "interface", is.Name, "before", was.Name)
	}
	switch {
	case was.Up && !is.Up:
		m.log.Warn("an interface was taken down: nothing arrives until it is up", "interface", is.Name, "remedy", "ip link set dev "+is.Name+" up")
	case working(was) && !working(is):
		m.log.Warn("an interface lost its carrier: nothing arrives until it is back", "interface", is.Name)
	case !working(was) && working(is):
		m.log.Info("an interface works again", "interface", is.Name, "after", next.since.Sub(last.since).Round(time.Millisecond))
	}
	if !slices.Equal(last.addresses, next.addresses) {
		m.followAddresses(k, last.addresses)
	}
	if was.MTU != is.MTU || was.MAC != is.MAC || was.RXQueues != is.RXQueues {
		m.refit(k, was, is)
	}
}

// followAddresses has the workers answer on the addresses that an interface has now,
// and their traffic steered. A worker that starts gets the message when it is ready.
func (m *master) followAddresses(k int, last []netip.Prefix) {
	l := &m.links[k]
	without := func(a, b []netip.Prefix) (only []string) {
		for _, p := range a {
			if !slices.Contains(b, p) {
				only = append(only, p.String())
			}
		}
		return only
	}
	m.log.Info("the addresses of an interface changed", "interface", l.state.Name,
		"added", without(l.addresses, last), "removed", without(last, l.addresses))
	for _, c := range m.children {
		if c.alive() {
			m.tell(c, worker.Message{Kind: worker.MessageAddresses, Addresses: &worker.Addresses{Link: k, Addresses: l.addresses}})
		}
	}
	if !m.announced {
		return // nothing is steered yet
	}
	if err := m.steer(); err != nil {
		m.log.Error("cannot steer to the addresses of an interface", "interface", l.state.Name, "error", err)
	}
}

// refit replaces the workers when an interface has become another one for their
// sockets and stacks: they know MTU, Ethernet address and queues from their start.
func (m *master) refit(k int, was, is dataplane.LinkState) {
	err := m.interfaces[k].CheckMTU(is.MTU)
	if n := len(m.children); err == nil && n > 0 {
		err = checkQueues(n, is)
	}
	if err != nil {
		m.fail(fmt.Errorf("interface %s changed: %w", is.Name, err))
		return
	}
	m.log.Warn("an interface changed: the workers are replaced, their connections are lost", "interface", is.Name,
		"mtu", fmt.Sprintf("%d, was %d", is.MTU, was.MTU), "queues", fmt.Sprintf("%d, was %d", is.RXQueues, was.RXQueues))
	if len(m.config.RSS.Key.Bytes) > 0 {
		m.readRSS(len(m.children)) // followRSS asks the NIC alone
	}
	if m.announced {
		if err := m.steer(); err != nil { // what the program answers has the MTU in it
			m.log.Error("cannot steer by the new MTU of an interface", "interface", is.Name, "error", err)
		}
	}
	if m.drained {
		return // what starts later knows
	}
	m.deadline = time.Now().Add(m.config.Timeouts.WorkerShutdown)
	for _, c := range m.children {
		switch c.state {
		case stateServing:
			m.tell(c, worker.Message{Kind: worker.MessageStop})
			c.state = stateDraining
		case stateStarting:
			m.kill(c)
			c.state = stateDraining
		}
	}
}

// equip gives worker c of n what it must know of the interfaces, and a page that
// has room for its queues.
func (m *master) equip(c *child, n int) (err error) {
	var links []worker.Link
	same := c.page != nil
	for k, i := range m.interfaces {
		l := worker.Link{LinkInfo: i.Link(), Addresses: m.links[k].addresses, RSS: m.rss[k]}
		s := m.links[k].state
		l.Name, l.MTU, l.MAC, l.RXQueues = s.Name, s.MTU, s.MAC, s.RXQueues
		for q := c.index; q < s.RXQueues; q += n {
			l.Queues = append(l.Queues, q)
		}
		same = same && slices.Equal(l.Queues, c.links[k].Queues)
		links = append(links, l)
	}
	c.links = links
	if same {
		return nil
	}
	if c.page != nil {
		if err := errors.Join(c.page.Close(), c.pageFile.Close()); err != nil {
			return err
		}
	}
	c.page, c.pageFile, err = worker.NewPage(c.links)
	return err
}
