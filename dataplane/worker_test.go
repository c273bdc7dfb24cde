package dataplane

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringroad/bpf"
)

// workerVariable gives a child the link, as JSON, and its queue.
const workerVariable = "RINGROAD_DATAPLANE_WORKER"

func init() {
	// Opens a queue as a worker does, sends its descriptor through descriptor 3, and then a byte for each good frame.
	children["worker"] = func() error {
		var job struct {
			Link  LinkInfo
			Queue int
		}
		if err := json.Unmarshal([]byte(os.Getenv(workerVariable)), &job); err != nil {
			return err
		}
		q, err := OpenQueue(job.Link, QueueOptions{Queue: job.Queue, RingEntries: 256, Frames: 320})
		if err != nil {
			return err
		}
		waiter, err := NewWaiter([]*Queue{q})
		if err != nil {
			return err
		}
		if err := unix.Sendmsg(3, []byte{'q'}, unix.UnixRights(q.FD()), nil, 0); err != nil {
			return err
		}
		for {
			waiter.Wait(-1)
			n := q.Peek(64)
			for i := range n {
				f := q.Frame(i)
				number := uint32(f[payloadAt+2])<<8 | uint32(f[payloadAt+3])
				if err := checkPayload(f[payloadAt:], number); err != nil {
					return err
				}
				if _, err := unix.Write(3, []byte{'f'}); err != nil {
					return err
				}
			}
			q.Release(n)
		}
	}
}

// workerProcess is a worker of a test that is the master.
type workerProcess struct {
	t    *testing.T
	conn *net.UnixConn
	kill func()
}

// startWorker starts a process that owns a queue, and steers the queue to its socket.
func startWorker(t *testing.T, in *Interface, queue int) *workerProcess {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	ours, theirs := os.NewFile(uintptr(fds[0]), "master"), os.NewFile(uintptr(fds[1]), "worker")
	generic, err := net.FileConn(ours)
	must(t, errors.Join(err, ours.Close()))
	conn := generic.(*net.UnixConn)
	t.Cleanup(func() { conn.Close() })

	job, err := json.Marshal(map[string]any{"Link": in.Link(), "Queue": queue})
	must(t, err)
	c := child(t, "worker")
	c.Env = append(c.Env, workerVariable+"="+string(job))
	c.ExtraFiles = []*os.File{theirs}
	must(t, c.Start())
	must(t, theirs.Close())
	killed := false
	w := &workerProcess{t: t, conn: conn, kill: func() {
		if !killed {
			killed = true
			must(t, c.Process.Kill())
			_ = c.Wait() // killed
		}
	}}
	t.Cleanup(w.kill)

	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	var b [16]byte
	control := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(b[:], control)
	must(t, err)
	messages, err := unix.ParseSocketControlMessage(control[:n])
	must(t, err)
	rights, err := unix.ParseUnixRights(&messages[0])
	must(t, err)
	must(t, errors.Join(in.SetSocket(queue, rights[0]), unix.Close(rights[0])))
	return w
}

// frames returns how many frames the worker has received since the last call, and waits for at least that many.
func (w *workerProcess) frames(least int) (n int) {
	w.t.Helper()
	var b [16]byte
	for {
		wait := patience
		if n >= least {
			wait = time.Millisecond
		}
		must(w.t, w.conn.SetReadDeadline(time.Now().Add(wait)))
		if _, err := w.conn.Read(b[:]); errors.Is(err, os.ErrDeadlineExceeded) && n >= least {
			return n
		} else if err != nil {
			w.t.Fatalf("worker: %v after %d frames", err, n)
		}
		n++
	}
}

// Each queue belongs to a process of its own. When one is killed the others go on, and its successor's socket takes the
// dead one's place.
func TestQueuesOfWorkerProcesses(t *testing.T) {
	for _, queues := range []int{2, 4} {
		w := newWire(t, 1, queues)
		in := w.open(0)
		s := w.station(0)
		var workers []*workerProcess
		for q := range queues {
			workers = append(workers, startWorker(t, in, q))
		}
		counters := func() bpf.Counters {
			c, err := in.Counters()
			must(t, err)
			return c
		}
		// A frame's queue is a hash of its flow, of which there are many.
		const flows = 200
		burst := func() {
			for number := range uint32(flows) {
				s.send(s.segment(number, 100))
			}
		}
		burst()
		share := make([]int, queues)
		await(t, "every frame arrives", func() bool {
			total := 0
			for q, worker := range workers {
				share[q] += worker.frames(0)
				total += share[q]
			}
			return total == flows
		})
		if slices.Contains(share, 0) {
			t.Fatalf("frames of the queues: %v", share)
		}
		for victim := range queues {
			workers[victim].kill()
			await(t, "the dead socket's entry is gone", func() bool {
				before := counters()[bpf.DropNoSocket]
				burst()
				for q, worker := range workers {
					if q != victim {
						worker.frames(1)
					}
				}
				return counters()[bpf.DropNoSocket] >= before+uint64(share[victim])
			})
			workers[victim] = startWorker(t, in, victim)
			before := counters()[bpf.DropNoSocket]
			burst()
			for _, worker := range workers {
				worker.frames(1)
			}
			if dropped := counters()[bpf.DropNoSocket] - before; dropped != 0 {
				t.Errorf("%d queues: %d frames dropped although queue %d has a new socket", queues, dropped, victim)
			}
		}
		for _, worker := range workers {
			worker.kill()
		}
	}
}

func TestSetSocketRefusals(t *testing.T) {
	w := newWire(t, 1, 2)
	in := w.open(0)
	for _, queue := range []int{-1, 2} {
		wantError(t, in.SetSocket(queue, 0), ErrNoQueue, "has 2", fmt.Sprintf("queue %d of rre0", queue))
	}
	q, err := OpenQueue(in.Link(), QueueOptions{RingEntries: 64, Frames: 80})
	must(t, err)
	t.Cleanup(func() { must(t, q.Close()) })
	no, err := os.Open("/dev/null")
	must(t, err)
	defer no.Close()
	if err := in.SetSocket(0, int(no.Fd())); err == nil {
		t.Error("steers to something that is no socket")
	}
	// A queue that was opened and not entered receives nothing.
	s := w.station(0)
	for number := range uint32(10) {
		s.send(s.segment(number, 100))
	}
	await(t, "frames are dropped", func() bool {
		c, err := in.Counters()
		must(t, err)
		return c[bpf.DropNoSocket] == 10
	})
	if n := q.Peek(1); n != 0 {
		t.Errorf("%d frames received", n)
	}
	must(t, in.SetSocket(0, q.FD()))
	must(t, in.SetSocket(0, q.FD())) // again: the master cannot know
	for number := range uint32(100) {
		s.send(s.segment(number, 100))
	}
	await(t, "frames arrive", func() bool { return q.Peek(1) == 1 })
	q.Release(1)
}

func TestLinkInfoSurvivesJSON(t *testing.T) {
	want := LinkInfo{Name: "eth0", Driver: "igb", Index: 3, MTU: 1500, Mode: ModeGeneric, RXQueues: 4, MAC: [6]byte{2, 0, 0, 0, 0, 255}}
	text, err := json.Marshal(want)
	must(t, err)
	var got LinkInfo
	must(t, json.Unmarshal(text, &got))
	if got != want {
		t.Errorf("%+v became %+v", want, got)
	}
}
