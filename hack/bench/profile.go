package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	pprof "github.com/google/pprof/profile"
)

// profile says where the processor time of ringroad's worker goes in a case.
type profile struct {
	Seconds float64     `json:"seconds"` // of processor time that was sampled
	Shares  []share     `json:"shares"`
	Top     []topSample `json:"top"` // functions by the time in themselves
}

// share is that of a step, as a part of one.
type share struct {
	Step  string  `json:"step"`
	Share float64 `json:"share"`
}

type topSample struct {
	Function string  `json:"function"`
	Share    float64 `json:"share"`
}

// The steps that samples are shared out among, in the order in which a request passes them.
const (
	stepWait        = "wait"        // for frames: falling asleep and waking up, the system calls for it included
	stepSystem      = "system call" // all others: the kick, inside which veth peers do their receiving
	stepInject      = "inject"      // RX ring, parsing and merging of frames, up to netstack's queue of the endpoint
	stepIn          = "netstack in" // segments of an endpoint, and reading from it
	stepConnections = "connections" // set-up and end
	stepParse       = "parse"       // of HTTP
	stepRelay       = "relay"       // the rest of the proxy
	stepOut         = "netstack out"
	stepTX          = "transmit" // frames into the TX ring, checksums included; system calls excluded
	stepGC          = "GC"
	stepOther       = "other"
)

var steps = []string{stepWait, stepSystem, stepInject, stepIn, stepConnections, stepParse, stepRelay, stepOut, stepTX, stepGC, stepOther}

// rule gives functions to a step. The first rule that fits a function counts; the innermost function of a stack that any rule fits
// decides, so that helpers (buffers, checksums, locks, the allocator) count for what they are used by.
type rule struct {
	step      string
	functions []string // beginnings of their names
}

const (
	netTCP   = "gvisor.dev/gvisor/pkg/tcpip/transport/tcp."
	netStack = "gvisor.dev/gvisor/pkg/tcpip/stack."
	ourStack = "ringroad/stack."
	ourPlane = "ringroad/dataplane."
)

var rules = []rule{
	{stepGC, []string{"runtime.gcBgMarkWorker", "runtime.gcAssistAlloc", "runtime.bgsweep", "runtime.bgscavenge", "runtime.gcStart", "runtime.gcMarkDone", "runtime.gcDrain", "runtime.deductSweepCredit"}},
	{stepWait, []string{ourStack + "(*Stack).Sleep", ourPlane + "(*Waiter)", ourPlane + "NewWaiter", "runtime.findRunnable", "runtime.schedule", "runtime.netpoll", "runtime.mcall", "runtime.sysmon", "runtime.bgsweep"}},
	{stepTX, []string{ourStack + "(*link).send", ourStack + "(*link).carryACK", ourStack + "(*link).write", ourStack + "(*link).segment", ourStack + "(*link).mergeFIN", ourStack + "(*link).submit", ourStack + "(*link).reserve", ourStack + "(*link).kick", ourStack + "(*link).flush", ourStack + "(*link).drain", ourStack + "(*link).hold", ourStack + "(*link).expire", ourStack + "(*link).WritePackets", ourStack + "(*Stack).Flush", ourPlane + "wakeTX", ourPlane + "(*sender)", ourPlane + "(*Queue).Kick", ourPlane + "(*Queue).Reserve", ourPlane + "(*Queue).Submit", ourPlane + "(*Queue).Complete"}},
	{stepConnections, []string{netTCP + "newEndpoint", netTCP + "initSender", netTCP + "(*listenContext)", netTCP + "(*Endpoint).handleListen", netTCP + "(*handshake)", netTCP + "(*Endpoint).connect", netTCP + "(*Endpoint).Connect", netTCP + "handleConnecting", netTCP + "(*Endpoint).Close", netTCP + "(*Endpoint).Shutdown", netTCP + "(*Endpoint).cleanup", netTCP + "(*Endpoint).transitionToState", netTCP + "(*Endpoint).shutdown", netTCP + "(*Endpoint).Abort", netTCP + "(*protocol).NewEndpoint", netTCP + "(*protocol).tsOffset", netTCP + "handleTimeWait", netTCP + "(*Endpoint).handleTimeWait", netTCP + "newReceiver", netTCP + "(*Endpoint).Accept",
		ourStack + "(*timeWait", ourStack + "(*Stack).Connect", ourStack + "(*Listener).Accept", ourStack + "(*Conn).Close", ourStack + "(*Conn).Abort", ourStack + "(*Stack).newConn", ourStack + "(*Placement", ourStack + "(*ports",
		"ringroad/proxy.(*listener).accept", "ringroad/proxy.(*Worker).open", "ringroad/proxy.(*Worker).dial", "ringroad/proxy.(*backend).establish", "ringroad/proxy.(*Worker).bury", "ringroad/proxy.(*Worker).forget"}},
	{stepOut, []string{netTCP + "sendTCP", netTCP + "(*sender).send", netTCP + "(*sender).maybeSend", netTCP + "(*Endpoint).Write", netTCP + "(*Endpoint).sendTCP", netTCP + "(*Endpoint).sendRaw", netTCP + "(*Endpoint).sendEmptyRaw", netTCP + "(*sender).postXmit", netTCP + "(*receiver).nonZeroWindow", netTCP + "(*Endpoint).makeOptions", netStack + "(*Route).WritePacket", ourStack + "(*leanIPv4)", ourStack + "(*leanIPv6)", ourStack + "(*leanEndpoint)", ourStack + "(*Conn).Write"}},
	{stepInject, []string{ourStack + "(*link).receive", ourStack + "(*link).deliver", ourStack + "(*link).mergeSegment", ourStack + "(*link).intact", ourStack + "(*link).flushMerge", ourStack + "(*link).queueSegment", ourStack + "(*link).packetOf", ourStack + "(*link).endpointOf", ourStack + "(*segment)", netTCP + "(*dispatcher).queuePacket", netTCP + "(*Endpoint).queueSegment", netTCP + "newIncomingSegment", netTCP + "(*protocol).QueuePacket", ourPlane + "(*Queue).Receive", ourPlane + "(*Queue).Release", ourPlane + "(*Queue)"}},
	{stepIn, []string{netTCP + "(*processor)", netTCP + "(*Endpoint).handleSegment", netTCP + "(*sender).handleRcvdSegment", netTCP + "(*receiver)", netTCP + "(*Endpoint).Read", ourStack + "(*Conn).Read", netTCP + "(*Endpoint)", netTCP + "(*sender)", ourStack + "(*clock)", netStack + "(*transportDemuxer)", ourStack + "(*Stack).Turn", ourStack + "(*Poller)", ourStack + "(*source)"}},
	{stepParse, []string{"ringroad/proxy/http1.(*Request)", "ringroad/proxy/http1.(*Response)", "ringroad/proxy/http1.(*section)", "ringroad/proxy/http1."}},
	{stepRelay, []string{"ringroad/proxy"}},
}

// classify returns the step of a stack, whose innermost function is the first.
func classify(stack []string) string {
	for _, f := range stack {
		if stepOfFunction(f) == stepGC {
			return stepGC
		}
	}
	for _, f := range stack {
		if step := stepOfFunction(f); step != "" {
			if strings.HasSuffix(stack[0], "syscall/linux.Syscall6") && step != stepWait {
				return stepSystem
			}
			return step
		}
	}
	return stepOther
}

func stepOfFunction(f string) string {
	for _, r := range rules {
		for _, beginning := range r.functions {
			if strings.HasPrefix(f, beginning) {
				return r.step
			}
		}
	}
	return ""
}

// topFunctions is how many functions are kept.
const topFunctions = 15

// readProfile shares out the samples of a CPU profile.
func readProfile(path string) (*profile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := pprof.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("read profile %s: %w", path, err)
	}
	return shareOut(p)
}

func shareOut(p *pprof.Profile) (*profile, error) {
	index := slices.IndexFunc(p.SampleType, func(t *pprof.ValueType) bool { return t.Type == "cpu" })
	if index < 0 {
		return nil, fmt.Errorf("it is no profile of processor time")
	}
	var total int64
	byStep, byFunction := map[string]int64{}, map[string]int64{}
	for _, s := range p.Sample {
		stack := functions(s)
		if len(stack) == 0 {
			stack = []string{"?"}
		}
		v := s.Value[index]
		total += v
		byStep[classify(stack)] += v
		byFunction[stack[0]] += v
	}
	if total == 0 {
		return nil, fmt.Errorf("it has no samples")
	}
	out := &profile{Seconds: float64(total) / 1e9}
	part := func(v int64) float64 { return float64(v) / float64(total) }
	for _, step := range steps {
		out.Shares = append(out.Shares, share{step, part(byStep[step])})
	}
	for name, v := range byFunction {
		out.Top = append(out.Top, topSample{name, part(v)})
	}
	slices.SortFunc(out.Top, func(a, b topSample) int {
		if a.Share != b.Share {
			return int((b.Share - a.Share) * 1e9)
		}
		return strings.Compare(a.Function, b.Function)
	})
	out.Top = out.Top[:min(len(out.Top), topFunctions)]
	return out, nil
}

// functions of a sample, inlined ones too, from the innermost out.
func functions(s *pprof.Sample) []string {
	var names []string
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	return names
}

// of returns the share of a step.
func (p *profile) of(step string) float64 {
	if p == nil {
		return 0
	}
	for _, s := range p.Shares {
		if s.Step == step {
			return s.Share
		}
	}
	return 0
}
