package main

import (
	"strings"
	"testing"
)

// TestClassify: stacks as they are seen, from the innermost function out.
func TestClassify(t *testing.T) {
	for stack, want := range map[string]string{
		"internal/runtime/syscall/linux.Syscall6 < syscall.RawSyscall6 < ringroad/dataplane.wakeTX < ringroad/dataplane.(*Queue).Kick < ringroad/stack.(*link).kick < ringroad/stack.(*Stack).Flush < ringroad/proxy.(*Worker).Run":                                             stepSystem,
		"internal/runtime/syscall/linux.Syscall6 < syscall.RawSyscall6 < ringroad/dataplane.senderCall < ringroad/dataplane.(*sender).send < ringroad/dataplane.(*sender).run":                                                                                                  stepSystem,
		"internal/runtime/syscall/linux.Syscall6 < internal/runtime/syscall/linux.EpollWait < runtime.netpoll < runtime.findRunnable < runtime.schedule < runtime.park_m < runtime.mcall":                                                                                       stepWait,
		"internal/runtime/syscall/linux.Syscall6 < syscall.read < ringroad/dataplane.(*Waiter).sleep < ringroad/stack.(*Stack).Sleep < ringroad/proxy.(*Worker).Run":                                                                                                            stepWait,
		"ringroad/dataplane/checksum.sumBlocks < ringroad/dataplane/checksum.Checksum < ringroad/stack.(*link).intact < ringroad/stack.(*link).deliver < ringroad/stack.(*link).receive < ringroad/stack.(*Stack).Turn":                                                         stepInject,
		"ringroad/dataplane/checksum.sumBlocks < ringroad/dataplane/checksum.Checksum < ringroad/stack.putTCPChecksum < ringroad/stack.(*link).write < ringroad/stack.(*link).send < ringroad/stack.(*leanIPv4).WritePacket":                                                    stepTX,
		"runtime.memmove < gvisor.dev/gvisor/pkg/buffer.(*View).Read < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).Read < ringroad/stack.(*Conn).Read < ringroad/proxy.(*peer).read":                                                                                  stepIn,
		"gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).sendSegment < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).sendData < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*sender).handleRcvdSegment < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*processor).start": stepOut,
		"runtime.mallocgc < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newEndpoint < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*listenContext).createConnectingEndpoint < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.(*Endpoint).handleListenSegment":                            stepConnections,
		"ringroad/proxy/http1.lookupField < ringroad/proxy/http1.(*section).parse < ringroad/proxy.(*session).run":                                                                                                                                                              stepParse,
		"runtime.memmove < ringroad/proxy.(*exchange).relay < ringroad/proxy.(*Worker).Run":                                                                                                                                                                                     stepRelay,
		"runtime.scanObject < runtime.gcDrain < runtime.gcBgMarkWorker.func2 < runtime.systemstack":                                                                                                                                                                             stepGC,
		"runtime.scanObject < runtime.gcDrainN < runtime.gcAssistAlloc1 < runtime.mallocgc < gvisor.dev/gvisor/pkg/tcpip/transport/tcp.newEndpoint":                                                                                                                             stepGC,
		"os.ReadFile < main.main": stepOther,
	} {
		if got := classify(strings.Split(stack, " < ")); got != want {
			t.Errorf("%s: %s, want %s", stack, got, want)
		}
	}
}

// TestShareOut reads the profile that the build is optimised with: one of the worker under load.
func TestShareOut(t *testing.T) {
	p, err := readProfile("../../cmd/ringroad/default.pgo")
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, s := range p.Shares {
		sum += s.Share
	}
	if sum < 0.999 || sum > 1.001 || len(p.Shares) != len(steps) {
		t.Errorf("the shares %v are %v together", p.Shares, sum)
	}
	// What a proxy under load surely does; the rules fit nothing when functions were renamed.
	for _, step := range []string{stepSystem, stepInject, stepIn, stepOut, stepTX, stepParse, stepRelay} {
		if p.of(step) < 0.01 {
			t.Errorf("%s has %.1f %%", step, p.of(step)*100)
		}
	}
	if p.of(stepOther) > 0.1 {
		t.Errorf("%.0f %% belong to nothing", p.of(stepOther)*100)
	}
	if len(p.Top) != topFunctions || p.Top[0].Share < p.Top[1].Share {
		t.Errorf("top functions %v", p.Top)
	}
	if _, err := readProfile("profile_test.go"); err == nil {
		t.Error("a source file is read as a profile")
	}
}
