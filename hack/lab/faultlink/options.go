package faultlink

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Options says what happens to frames, in both directions unless Only says otherwise. The zero value is a plain wire.
type Options struct {
	Seed uint64

	Loss      float64 // share of frames lost, 0 to 1
	Burst     float64 // frames lost in a row on average (Gilbert-Elliott); up to 1: each by itself
	Duplicate float64 // share of frames that arrive twice
	Reorder   float64 // share of frames that others overtake
	Gap       int     // how many overtake one; 0: 3
	Corrupt   float64 // share of frames with one bit behind the Ethernet header turned

	Delay   time.Duration // of every frame
	Jitter  time.Duration // more or less of it, at random; frames keep their order
	Rate    int64         // bits/s; 0: none. What waits longer than queueTime is lost.
	MTU     int           // larger packets vanish, without a word of ICMP; bytes, 0: none do
	DownAt  time.Duration // after the first frame with TCP nothing passes
	DownFor time.Duration // for so long; 0: it never happens

	Only Way // the direction that all this is about
}

// Way is a direction of a wire that has the edge at one end.
type Way string

// Directions.
const (
	BothWays Way = ""
	ToEdge   Way = "to-edge"
	FromEdge Way = "from-edge"
)

// Usage describes what Parse reads.
const Usage = "seed=N, loss=1%, burst=FRAMES, duplicate=1%, reorder=3%, gap=FRAMES, corrupt=0.1%, delay=20ms, jitter=2ms, " +
	"rate=100mbit, mtu=BYTES, down=AT+FOR (2s+3s), only=to-edge or from-edge"

// Parse reads options such as "loss=1%,delay=20ms,seed=7".
func Parse(text string) (o Options, err error) {
	for _, item := range strings.Split(text, ",") {
		if item == "" {
			continue
		}
		key, value, _ := strings.Cut(item, "=")
		if err := o.set(key, value); err != nil {
			return o, fmt.Errorf("link option %q: %w; there are %s", item, err, Usage)
		}
	}
	return o, o.check()
}

func (o *Options) set(key, value string) (err error) {
	switch key {
	case "seed":
		o.Seed, err = strconv.ParseUint(value, 10, 64)
	case "loss":
		o.Loss, err = share(value)
	case "burst":
		o.Burst, err = strconv.ParseFloat(value, 64)
	case "duplicate":
		o.Duplicate, err = share(value)
	case "reorder":
		o.Reorder, err = share(value)
	case "gap":
		o.Gap, err = strconv.Atoi(value)
	case "corrupt":
		o.Corrupt, err = share(value)
	case "delay":
		o.Delay, err = time.ParseDuration(value)
	case "jitter":
		o.Jitter, err = time.ParseDuration(value)
	case "rate":
		o.Rate, err = rate(value)
	case "mtu":
		o.MTU, err = strconv.Atoi(value)
	case "down":
		at, length, ok := strings.Cut(value, "+")
		if !ok {
			return errors.New("says when and for how long")
		}
		if o.DownAt, err = time.ParseDuration(at); err == nil {
			o.DownFor, err = time.ParseDuration(length)
		}
	case "only":
		o.Only = Way(value)
	default:
		err = errors.New("is not known")
	}
	return err
}

// check refuses what cannot be.
func (o *Options) check() error {
	for name, v := range map[string]float64{"loss": o.Loss, "duplicate": o.Duplicate, "reorder": o.Reorder, "corrupt": o.Corrupt} {
		if !(v >= 0 && v <= 1) {
			return fmt.Errorf("%s of a link: %v is not a share between 0 and 1", name, v)
		}
	}
	switch {
	case o.Burst < 0 || o.Gap < 0 || o.Delay < 0 || o.Rate < 0 || o.MTU < 0 || o.DownAt < 0 || o.DownFor < 0:
		return errors.New("options of a link: no number may be negative")
	case o.Jitter < 0 || o.Jitter > o.Delay:
		return fmt.Errorf("jitter of a link: %v is not between 0 and the delay, %v", o.Jitter, o.Delay)
	case o.Burst > 1 && o.Loss*(o.Burst+1) > o.Burst:
		return fmt.Errorf("burst of a link: with %v frames lost in a row no more than %.3f can be lost", o.Burst, o.Burst/(o.Burst+1))
	case o.Only != BothWays && o.Only != ToEdge && o.Only != FromEdge:
		return fmt.Errorf("only %q: a link leads %s and %s", o.Only, ToEdge, FromEdge)
	}
	return nil
}

// String is what Parse reads.
func (o Options) String() string {
	items := []string{"seed=" + strconv.FormatUint(o.Seed, 10)}
	add := func(set bool, key string, value any) {
		if set {
			items = append(items, fmt.Sprintf("%s=%v", key, value))
		}
	}
	add(o.Loss != 0, "loss", o.Loss)
	add(o.Burst != 0, "burst", o.Burst)
	add(o.Duplicate != 0, "duplicate", o.Duplicate)
	add(o.Reorder != 0, "reorder", o.Reorder)
	add(o.Gap != 0, "gap", o.Gap)
	add(o.Corrupt != 0, "corrupt", o.Corrupt)
	add(o.Delay != 0, "delay", o.Delay)
	add(o.Jitter != 0, "jitter", o.Jitter)
	add(o.Rate != 0, "rate", o.Rate)
	add(o.MTU != 0, "mtu", o.MTU)
	add(o.DownFor != 0, "down", o.DownAt.String()+"+"+o.DownFor.String())
	add(o.Only != BothWays, "only", o.Only)
	return strings.Join(items, ",")
}

// share reads a share, in percent or as a number up to 1.
func share(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if percent {
		v /= 100
	}
	return v, err
}

// rate reads bits/s.
func rate(text string) (int64, error) {
	unit := 1.0
	for suffix, v := range map[string]float64{"kbit": 1e3, "mbit": 1e6, "gbit": 1e9} {
		if number, ok := strings.CutSuffix(text, suffix); ok {
			text, unit = number, v
		}
	}
	v, err := strconv.ParseFloat(text, 64)
	return int64(v * unit), err
}
