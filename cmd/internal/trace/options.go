package trace

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Options say which requests are followed. The zero value is all of them until it is
// stopped. Filters combine: a request has to pass them all.
type Options struct {
	Next     uint64        `json:"next"`     // end after so many; 0: no limit
	Sample   uint64        `json:"sample"`   // of the requests that pass the filters below follow one in so many; 0: every one
	Client   netip.Prefix  `json:"client"`   // of the client; not valid: any
	Path     string        `json:"path"`     // that the request target begins with
	Slower   time.Duration `json:"slower"`   // keep only those that took at least so long
	Duration time.Duration `json:"duration"` // end after this time; 0: no limit
}

// ParseClient reads an address or a network.
func ParseClient(text string) (p netip.Prefix, err error) {
	if text == "" {
		return p, nil
	}
	if strings.Contains(text, "/") {
		if p, err = netip.ParsePrefix(text); err != nil {
			return p, fmt.Errorf("%q is no network: want an address with the length of its prefix, as 192.0.2.0/24", text)
		}
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return p, fmt.Errorf("%q is no address: want one as 192.0.2.7, or a network as 192.0.2.0/24", text)
	}
	return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
}

// Check refuses what cannot be.
func (o Options) Check() error {
	switch {
	case o.Slower < 0:
		return fmt.Errorf("slower than %v: want a positive time", o.Slower)
	case o.Duration < 0:
		return fmt.Errorf("a duration of %v: want a positive time", o.Duration)
	case o.Path != "" && o.Path[0] != '/':
		return fmt.Errorf("the path %q: want one that begins with /", o.Path)
	}
	return nil
}

// Query is o as the control socket takes it.
func (o Options) Query() url.Values {
	v := url.Values{}
	set := func(name, value string, is bool) {
		if is {
			v.Set(name, value)
		}
	}
	set("next", strconv.FormatUint(o.Next, 10), o.Next != 0)
	set("sample", strconv.FormatUint(o.Sample, 10), o.Sample != 0)
	set("client", o.Client.String(), o.Client.IsValid())
	set("path", o.Path, o.Path != "")
	set("slower", o.Slower.String(), o.Slower != 0)
	set("duration", o.Duration.String(), o.Duration != 0)
	return v
}

// ParseQuery is the opposite of Query.
func ParseQuery(v url.Values) (o Options, err error) {
	for name := range v {
		value := v.Get(name)
		var wrong error
		switch name {
		case "next":
			o.Next, wrong = strconv.ParseUint(value, 10, 64)
		case "sample":
			o.Sample, wrong = strconv.ParseUint(value, 10, 64)
		case "client":
			o.Client, wrong = ParseClient(value)
		case "path":
			o.Path = value
		case "slower":
			o.Slower, wrong = time.ParseDuration(value)
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

// Order is what a worker is told of a trace.
type Order struct {
	Options Options   `json:"options"`
	Start   time.Time `json:"start"` // of the trace's clock
}
