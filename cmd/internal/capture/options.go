package capture

import (
	"errors"
	"fmt"
	"math/bits"
	"net/url"
	"strconv"
	"time"

	"golang.org/x/net/bpf"

	"ringroad/cmd/internal/pcapfilter"
)

// Direction says which frames are captured.
type Direction string

const (
	BothWays Direction = "inout"
	Inbound  Direction = "in"
	Outbound Direction = "out"
)

const (
	// MaxSnapLen is tcpdump's, beyond what any frame has.
	MaxSnapLen = 1 << 18
	// DefaultBufferBytes holds what a worker passes in about 50 ms under full load
	// in small frames.
	DefaultBufferBytes = 4 << 20

	minBufferBytes = 64 << 10
	maxBufferBytes = 1 << 30
)

// Options say what is captured. The zero value is everything until it is stopped.
type Options struct {
	Filter      string // of tcpdump; "": all frames
	Direction   Direction
	SnapLen     int           // bytes of a frame that are kept; 0: all
	BufferBytes int           // of each worker; 0: DefaultBufferBytes. It is rounded up to a power of two.
	Handed      bool          // frames of the same host that one worker hands to another too
	Count       uint64        // stop after so many frames; 0: no limit
	Duration    time.Duration // stop after this time; 0: no limit

	// Version of ringroad, which the file names.
	Version string `json:"-"`
}

// withDefaults refuses what cannot be, and compiles the filter.
func (o Options) withDefaults() (Options, []bpf.Instruction, error) {
	switch o.Direction {
	case "":
		o.Direction = BothWays
	case BothWays, Inbound, Outbound:
	default:
		return o, nil, fmt.Errorf("direction %q: want in, out or inout", o.Direction)
	}
	if o.SnapLen == 0 {
		o.SnapLen = MaxSnapLen
	}
	if o.BufferBytes == 0 {
		o.BufferBytes = DefaultBufferBytes
	}
	switch {
	case o.SnapLen < 0 || o.SnapLen > MaxSnapLen:
		return o, nil, fmt.Errorf("a snapshot length of %d bytes: want up to %d", o.SnapLen, MaxSnapLen)
	case o.BufferBytes < minBufferBytes || o.BufferBytes > maxBufferBytes:
		return o, nil, fmt.Errorf("a buffer of %d KiB: want %d to %d", o.BufferBytes>>10, minBufferBytes>>10, maxBufferBytes>>10)
	case o.Duration < 0:
		return o, nil, fmt.Errorf("a duration of %v: want more", o.Duration)
	}
	o.BufferBytes = 1 << bits.Len(uint(o.BufferBytes-1))
	code, err := pcapfilter.Compile(o.Filter)
	return o, code, err
}

// Check refuses what cannot be.
func (o Options) Check() error {
	_, _, err := o.withDefaults()
	return err
}

// Query is o as the control socket takes it.
func (o Options) Query() url.Values {
	v := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("filter", o.Filter, o.Filter != "")
	set("direction", string(o.Direction), o.Direction != "")
	set("snaplen", strconv.Itoa(o.SnapLen), o.SnapLen != 0)
	set("buffer", strconv.Itoa(o.BufferBytes), o.BufferBytes != 0)
	set("handed", "true", o.Handed)
	set("count", strconv.FormatUint(o.Count, 10), o.Count != 0)
	set("duration", o.Duration.String(), o.Duration != 0)
	return v
}

// ParseQuery is the opposite of Query.
func ParseQuery(v url.Values) (o Options, err error) {
	for name := range v {
		value := v.Get(name)
		var wrong error
		switch name {
		case "filter":
			o.Filter = value
		case "direction":
			o.Direction = Direction(value)
		case "snaplen":
			o.SnapLen, wrong = strconv.Atoi(value)
		case "buffer":
			o.BufferBytes, wrong = strconv.Atoi(value)
		case "handed":
			o.Handed, wrong = strconv.ParseBool(value)
		case "count":
			o.Count, wrong = strconv.ParseUint(value, 10, 64)
		case "duration":
			o.Duration, wrong = time.ParseDuration(value)
		default:
			wrong = errors.New("there is no such parameter")
		}
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", name, wrong))
		}
	}
	return o, errors.Join(err, o.Check())
}
