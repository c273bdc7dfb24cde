package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
)

// FilterConfig says which sources may send to listeners, and how much. Of the prefixes that a source is in the longest
// decides. One that Allow names is neither refused nor limited; a prefix that both lists name is allowed.
type FilterConfig struct {
	Allow, Deny []netip.Prefix
	// Connections limits the SYNs, Packets all packets of a source prefix, which has IPv4Bits or IPv6Bits of the source.
	Connections, Packets Rate
	IPv4Bits, IPv6Bits   int
}

// Rate limits something to so many a second, and Burst at once. The zero value is no limit.
type Rate struct{ PerSecond, Burst int }

// steps returns what one costs, and how far ahead of time a bucket may be.
func (r Rate) steps() (cost, ahead uint64) {
	if r.PerSecond <= 0 {
		return 0, 0
	}
	cost = max(1, uint64(time.Second)/uint64(r.PerSecond))
	return cost, cost * uint64(max(0, r.Burst-1))
}

// Filter is a FilterConfig in the form of the maps; several programs may use one. It must stay open until
// [Steer.Configure] has replaced it everywhere.
type Filter struct {
	list     *ebpf.Map // nil: no lists
	prefixes int
	limits   steerLimits
}

// The layout of struct list_key and the values of enum listed in the C side, which bpf2go does not see.
type listKey struct {
	bits, family uint32
	word         [4]uint32
}

const (
	listedAllow uint8 = 1
	listedDeny  uint8 = 2
)

// listBatch is how many prefixes one system call inserts.
const listBatch = 1 << 14

// NewFilter loads the lists into the kernel. It needs what [Load] needs, and some 70 to 130 bytes of memory for each prefix.
func NewFilter(c FilterConfig) (*Filter, error) {
	f := &Filter{prefixes: len(c.Allow) + len(c.Deny)}
	f.limits.Connections.CostNs, f.limits.Connections.AheadNs = c.Connections.steps()
	f.limits.Packets.CostNs, f.limits.Packets.AheadNs = c.Packets.steps()
	f.limits.Mask = [2]steerAddress{prefixMask(96 + c.IPv4Bits), prefixMask(c.IPv6Bits)}
	if f.prefixes == 0 {
		return f, nil
	}
	spec, err := loadSteer()
	if err != nil {
		return nil, &LoadError{Err: err}
	}
	inner := spec.Maps[steerMapLists].InnerMap.Copy()
	inner.Name, inner.MaxEntries = "ringroad_list", uint32(f.prefixes)
	if f.list, err = ebpf.NewMap(inner); err != nil {
		return nil, fmt.Errorf("load lists of %d prefixes: %w", f.prefixes, err)
	}
	// Last what is allowed, in place of what is denied.
	err = fill(f.list, c.Deny, listedDeny)
	if err == nil {
		err = fill(f.list, c.Allow, listedAllow)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load lists of %d prefixes: %w", f.prefixes, err), f.Close())
	}
	return f, nil
}

// fill inserts prefixes, some thousands a system call.
func fill(m *ebpf.Map, prefixes []netip.Prefix, listed uint8) error {
	n := min(len(prefixes), listBatch)
	keys, values := make([]listKey, 0, n), make([]uint8, n)
	for i := range values {
		values[i] = listed
	}
	for len(prefixes) > 0 {
		keys = keys[:0]
		for _, p := range prefixes[:min(len(prefixes), n)] {
			key, err := keyOf(p)
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		if _, err := m.BatchUpdate(keys, values[:len(keys)], nil); err != nil {
			return err
		}
		prefixes = prefixes[len(keys):]
	}
	return nil
}

func keyOf(p netip.Prefix) (key listKey, err error) {
	a := p.Addr()
	if !p.IsValid() || a.Is4In6() {
		return key, fmt.Errorf("prefix %v: must be one of IPv4 or IPv6 addresses", p)
	}
	b := a.AsSlice()
	for i := range len(b) / 4 {
		key.word[i] = binary.NativeEndian.Uint32(b[4*i:])
	}
	key.bits, key.family = uint32(32+p.Bits()), uint32(family(a))
	return key, nil
}

// prefixMask has the first bits of an address set.
func prefixMask(bits int) (mask steerAddress) {
	var b [16]byte
	for i := range bits {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return addressKey(netip.AddrFrom16(b))
}

// Prefixes is how many the lists have.
func (f *Filter) Prefixes() int { return f.prefixes }

// Close releases the lists. Programs that use them do so until they are configured again.
func (f *Filter) Close() error {
	if f == nil || f.list == nil {
		return nil
	}
	return f.list.Close()
}

// active tells whether the filter could refuse anything.
func (f *Filter) active() bool { return f != nil && (f.list != nil || f.limited()) }

// limited tells whether there is any limit.
func (f *Filter) limited() bool {
	return f.limits.Connections.CostNs != 0 || f.limits.Packets.CostNs != 0
}

// setFilter has the program use f, nil for none. The lists are replaced between two packets. What is known of sources
// stays as long as there is a limit; for a packet the old and the new limits may mix.
func (s *Steer) setFilter(f *Filter) error {
	const slot = uint32(0)
	var errs []error
	if f != nil && f.limited() {
		errs = append(errs, s.maps.Limits.Put(slot, &f.limits), s.openSources())
	} else {
		errs = append(errs, clearSlot(s.maps.Sources, slot), s.maps.Limits.Put(slot, &steerLimits{}))
		s.limiting = false
	}
	if f != nil && f.list != nil {
		errs = append(errs, s.maps.Lists.Put(slot, f.list))
	} else {
		errs = append(errs, clearSlot(s.maps.Lists, slot))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("set the filter: %w", err)
	}
	return nil
}

// openSources gives the program the memory for source prefixes, which it keeps.
func (s *Steer) openSources() error {
	if s.limiting {
		return nil
	}
	m, err := ebpf.NewMap(s.buckets)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := s.maps.Sources.Put(uint32(0), m); err != nil {
		return err
	}
	s.limiting = true
	return nil
}

func clearSlot(m *ebpf.Map, slot uint32) error {
	if err := m.Delete(slot); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}
