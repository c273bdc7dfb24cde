package bpf

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/cilium/ebpf"
)

// Flows is the memory in which workers tell the programs which connections are open, and whether there is a flood. All
// programs of a host's interfaces share one: answers may come in by another interface than requests go out by.
type Flows struct {
	flood, slots *ebpf.Map
}

// flowSlots is how many slots there are, of a byte for each worker: with 26,000 connections open, of clients and to
// backends, a tenth of the packets that belong to none find a slot in use.
const flowSlots = 1 << 18

// NewFlows makes the memory. It needs what [Load] needs.
func NewFlows() (*Flows, error) {
	spec, err := loadSteer()
	if err != nil {
		return nil, &LoadError{Err: err}
	}
	slots := spec.Maps[steerMapFlows]
	slots.MaxEntries = flowSlots * min(bytesFor(runtime.NumCPU()), maxFlowBytes) / 8
	f := &Flows{}
	if f.slots, err = ebpf.NewMap(slots); err == nil {
		f.flood, err = ebpf.NewMap(spec.Maps[steerMapFlood])
	}
	if err == nil {
		err = f.Divide(1)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the flow table: %w", err), f.Close())
	}
	return f, nil
}

// bytesFor is how many bytes a slot has for so many workers: a power of two.
func bytesFor(workers int) uint32 {
	bytes := uint32(1)
	for ; int(bytes) < workers; bytes *= 2 {
	}
	return bytes
}

// Divide says how many workers there are, before the first of them calls [OpenFlows].
func (f *Flows) Divide(workers int) error {
	bytes := bytesFor(workers)
	if bytes > maxFlowBytes {
		return fmt.Errorf("divide the flow table: %d workers, at most %d are supported", workers, maxFlowBytes)
	}
	// More workers than there are CPUs have fewer slots. All are powers of two.
	slots := min(flowSlots, f.slots.MaxEntries()*8/bytes)
	var key [16]byte
	rand.Read(key[:]) //nolint:errcheck // it never fails
	value := steerFlood{
		Key:  [2]uint64{binary.LittleEndian.Uint64(key[:]), binary.LittleEndian.Uint64(key[8:])},
		Mask: slots - 1, Bytes: bytes, Bits: 1<<(8*bytes) - 1, // all with eight workers and more
	}
	if err := f.flood.Put(uint32(0), &value); err != nil {
		return fmt.Errorf("divide the flow table: %w", err)
	}
	return nil
}

// FDs are the descriptors that OpenFlows takes, in this order. They stay those of f.
func (f *Flows) FDs() [2]int { return [2]int{f.flood.FD(), f.slots.FD()} }

// Close releases the memory; programs and workers that use it do so until they end.
func (f *Flows) Close() error {
	var errs []error
	for _, m := range []*ebpf.Map{f.flood, f.slots} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// replace has a program use the memory.
func (f *Flows) replace(spec *ebpf.CollectionSpec) map[string]*ebpf.Map {
	spec.Maps[steerMapFlows].MaxEntries = f.slots.MaxEntries()
	return map[string]*ebpf.Map{steerMapFlows: f.slots, steerMapFlood: f.flood}
}

// OpenFlows maps the memory of the descriptors for one worker, for as long as the process lives. What an earlier process
// of this worker left is cleared. No privilege is needed.
func OpenFlows(flood, slots *os.File, worker int) (*FlowTable, error) {
	t, err := mapFlows(flood, slots)
	if err != nil {
		return nil, fmt.Errorf("map the flow table: %w", err)
	}
	if worker < 0 || worker >= int(t.flood.Bytes) {
		return nil, fmt.Errorf("map the flow table: there is no worker %d", worker)
	}
	t.worker = worker
	t.clear()
	return t, nil
}
