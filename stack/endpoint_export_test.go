package stack

import (
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Endpoint is netstack's endpoint of c.
func (c *Conn) Endpoint() *tcp.Endpoint { return c.endpoint.(*tcp.Endpoint) }

// Reusable is how many endpoints are kept.
func (s *Stack) Reusable() int { return len(s.opening.reusable) }

// Spoil writes into all numbers and flags of an endpoint that is kept, but for what stays.
func Spoil(ep *tcp.Endpoint) {
	each(ep, func(path string, v reflect.Value) {
		if v.Kind() == reflect.Pointer || strings.Contains(path, ".minRTO") || strings.Contains(path, ".maxRTO") || strings.Contains(path, ".maxRetries") || strings.Contains(path, ".ranges") || strings.Contains(path, ".limRdr") || strings.Contains(path, "stack.timer)") {
			return
		}
		v = reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem()
		switch {
		case v.CanInt():
			v.SetInt(77)
		case v.CanUint():
			v.SetUint(77)
		case v.Kind() == reflect.Bool:
			v.SetBool(true)
		}
	})
}

// Dump is all that an endpoint is, by the path to it: of numbers of bytes how far they are from those of the connection, and
// of pointers whether they lead to the same parts. Of times only whether they are set is told, and nothing of what depends on them.
func Dump(ep *tcp.Endpoint) map[string]string {
	c, _ := connectionOf(ep)
	dump := make(map[string]string)
	seen := make(map[unsafe.Pointer]int)
	each(ep, func(path string, v reflect.Value) {
		var s string
		switch {
		case strings.Contains(path, "RTTState"), strings.HasSuffix(path, ".RTO"), strings.HasSuffix(path, ".txHash"), strings.HasSuffix(path, ".RecentTS"), strings.HasSuffix(path, ".LocalPort"),
			strings.HasSuffix(path, ".sendSYNOpts.TSVal"), strings.Contains(path, "stack.timer)"):
			return
		case v.Type() == reflect.TypeFor[tcpip.MonotonicTime]():
			s = fmt.Sprint("zero: ", v.IsZero())
		case v.Type() == reflect.TypeFor[seqnum.Value]():
			number := seqnum.Value(v.Uint())
			switch {
			case number-c.send.SndUna+100 < 200:
				s = fmt.Sprintf("sent%+d", int32(number-c.send.SndUna))
			case number-c.receive.state.RcvNxt+1<<20 < 2<<20:
				s = fmt.Sprintf("received%+d", int32(number-c.receive.state.RcvNxt))
			default:
				s = fmt.Sprint(number)
			}
		case v.Kind() == reflect.Func:
			s = fmt.Sprintf("%#x", v.Pointer())
		case v.Kind() == reflect.Pointer:
			n, ok := seen[v.UnsafePointer()]
			if !ok && !v.IsNil() {
				n = len(seen) + 1
				seen[v.UnsafePointer()] = n
			}
			s = fmt.Sprint(v.Type(), " ", n)
		case v.Kind() == reflect.Map, v.Kind() == reflect.Slice:
			s = fmt.Sprint(v.Len())
		default:
			s = fmt.Sprint(v)
		}
		dump[path] = s
	})
	return dump
}

// each calls f with all that an endpoint consists of.
func each(ep *tcp.Endpoint, f func(path string, v reflect.Value)) {
	seen := make(map[unsafe.Pointer]bool)
	var walk func(path string, v reflect.Value)
	walk = func(path string, v reflect.Value) {
		t := v.Type()
		if strings.HasSuffix(path, ".protocol") || strings.HasSuffix(path, ".stack") || strings.HasSuffix(path, ".stackHandler") || strings.HasSuffix(path, ".route") || strings.HasSuffix(path, ".clock") || strings.HasSuffix(path, ".waiterQueue") || strings.HasSuffix(path, ".owner") || strings.HasSuffix(path, ".timer") && t.Kind() == reflect.Interface {
			return
		}
		switch {
		case t == reflect.TypeFor[tcpip.MonotonicTime]():
			f(path, v)
		case strings.HasSuffix(t.Name(), "Mutex"), strings.HasSuffix(t.Name(), "noCopy"):
		case t.Kind() == reflect.Struct:
			for i := range t.NumField() {
				walk(path+"."+t.Field(i).Name, v.Field(i))
			}
		case t.Kind() == reflect.Array:
			for i := range t.Len() {
				walk(fmt.Sprint(path, ".", i), v.Index(i))
			}
		case t.Kind() == reflect.Interface:
			if !v.IsNil() {
				walk(path+"("+v.Elem().Type().String()+")", v.Elem())
			}
		case t.Kind() == reflect.Pointer:
			f(path, v)
			if !v.IsNil() && !seen[v.UnsafePointer()] {
				seen[v.UnsafePointer()] = true
				walk(path, v.Elem())
			}
		default:
			f(path, v)
		}
	}
	walk("", reflect.ValueOf(ep))
}

// ReceiveMemory is what received segments take of the memory of c.
func (c *Conn) ReceiveMemory() int64 { return receiveMemory(c.endpoint.(*tcp.Endpoint)) }
