package dataplane

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/safchain/ethtool"
)

// Indirection is the indirection table of a NIC: the hash of a frame chooses an entry, and that is the frame's queue.
type Indirection []uint32

// ReadIndirection reads the table of an interface in the network namespace of the calling thread. The error wraps
// [ErrNoInterface], or [unix.EOPNOTSUPP] where the driver has none.
func ReadIndirection(ifindex int) (t Indirection, err error) {
	err = withEthtool(ifindex, SettingRSS, func(_ *ethtool.Ethtool, i *net.Interface) error {
		t, err = ethtoolTable(i.Name)
		return err
	})
	return t, err
}

// RSSFor is the value of [SettingRSS] that spreads flows evenly over the queues from 0 to n-1, or over all there are when
// these are fewer, or n is 0. It is the present one if that does.
func RSSFor(ifindex, n int) (value string, err error) {
	err = withEthtool(ifindex, SettingRSS, func(_ *ethtool.Ethtool, i *net.Interface) error {
		t, err := ethtoolTable(i.Name)
		if err != nil {
			return err
		}
		rings, err := ethtoolRings(i.Name)
		if err != nil {
			return err
		}
		if n == 0 || n > rings {
			n = rings
		}
		value = EqualRSS(n)
		if t.Even(n) {
			value = t.String()
		}
		return nil
	})
	return value, err
}

// EqualRSS is the value of [SettingRSS] that names the queues from 0 to n-1 in turn.
func EqualRSS(n int) string { return fmt.Sprintf("equal %d", n) }

// Even reports whether the table names the queues from 0 to n-1, each about as often, and no others.
func (t Indirection) Even(n int) bool {
	times := make([]int, n)
	for _, q := range t {
		if q >= uint32(n) {
			return false
		}
		times[q]++
	}
	return n > 0 && slices.Max(times)-slices.Min(times) <= 1
}

// String is the table, which is not empty, as a value of [SettingRSS].
func (t Indirection) String() string {
	queues := int(slices.Max(t)) + 1
	if slices.Equal(t, equalTable(len(t), queues)) {
		return EqualRSS(queues)
	}
	weights := make([]int, queues)
	for _, q := range t {
		weights[q]++
	}
	kind, numbers := "table", make([]int, len(t))
	if slices.Equal(t, weightedTable(len(t), weights)) {
		kind, numbers = "weight", weights
		divide(numbers)
	} else {
		for i, q := range t {
			numbers[i] = int(q)
		}
	}
	return kind + " " + strings.Trim(fmt.Sprint(numbers), "[]")
}

// equalTable is the one that ethtool makes of "equal", and a kernel by itself (ethtool_rxfh_indir_default).
func equalTable(entries, queues int) Indirection {
	table := make(Indirection, entries)
	for i := range table {
		table[i] = uint32(i % queues)
	}
	return table
}

// weightedTable is the one that ethtool makes of "weight" (fill_indir_table), and rounds so: the queues one after the other.
func weightedTable(entries int, weights []int) Indirection {
	sum := 0
	for _, w := range weights {
		sum += w
	}
	table := make(Indirection, entries)
	queue, until := 0, weights[0]
	for i := range table {
		for i >= entries*until/sum {
			queue++
			until += weights[queue]
		}
		table[i] = uint32(queue)
	}
	return table
}

// divide divides numbers, one of which is not 0, by what they have in common.
func divide(numbers []int) {
	common := 0
	for _, n := range numbers {
		for n != 0 {
			common, n = n, common%n
		}
	}
	for i := range numbers {
		numbers[i] /= common
	}
}

// parseTable makes a table of so many entries of a value of SettingRSS.
func parseTable(entries int, value string) (Indirection, error) {
	kind, rest, _ := strings.Cut(value, " ")
	var numbers []int
	sum := 0
	for word := range strings.FieldsSeq(rest) {
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 || n > maxQueueNumber {
			return nil, fmt.Errorf("%w: rss %q: %s is no number of queues", ErrOptions, value, word)
		}
		numbers = append(numbers, n)
		sum += n
	}
	switch {
	case kind == "equal" && len(numbers) == 1 && sum > 0:
		return equalTable(entries, numbers[0]), nil
	case kind == "weight" && sum > 0:
		return weightedTable(entries, numbers), nil
	case kind == "table" && len(numbers) == entries:
		table := make(Indirection, entries)
		for i, q := range numbers {
			table[i] = uint32(q)
		}
		return table, nil
	default:
		return nil, fmt.Errorf("%w: rss %q, want \"equal N\", \"weight W0 W1 ...\" or \"table\" with %d queues", ErrOptions, value, entries)
	}
}

// maxQueueNumber is far above what any NIC has.
const maxQueueNumber = 1 << 16

func writeTable(name, value string) error {
	now, err := ethtoolTable(name)
	if err != nil {
		return err
	}
	table, err := parseTable(len(now), value)
	if err != nil {
		return err
	}
	// A table that an operator has set stays when channels come. That of the kernel follows them, so it is the one to give
	// back where they are the same.
	if rings, err := ethtoolRings(name); err == nil && rings > 0 && slices.Equal(table, equalTable(len(table), rings)) {
		return setEthtoolTable(name, nil)
	}
	return setEthtoolTable(name, table)
}
