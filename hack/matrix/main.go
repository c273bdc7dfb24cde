// Command matrix compares ringroad with nginx on the kernel's TCP over a bad link: every combination of loss, reordering, duplicates
// and delay on the wire to the client, a body down and a body up, each over a connection of its own. Both proxies meet the same
// fates: what becomes of the n-th frame follows from the seed (package faultlink). Bodies are checked by hash.
//
// Two labs stand side by side, one with each proxy, and take turns. The table has medians over the seeds, the ratio of them, and the
// longest time that nothing came.
//
// It needs root and nginx (`make matrix` installs it).
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
	"ringroad/hack/lab/faultlink"
)

// front is where both proxies listen, each in its lab.
const front = "10.1.0.1:80"

const nginxConfig = `	server {
		listen 10.1.0.1:80 backlog=8192;
		proxy_request_buffering off;
		proxy_buffer_size 16k;
		proxy_buffers 8 16k;
		proxy_max_temp_file_size 0;
		location / { proxy_pass http://10.2.0.2:8081; proxy_http_version 1.1; proxy_set_header Connection ""; }
	}
`

const ringroadConfig = `interfaces: [e0, e1]
rx_checksum: verify
listeners:
  - {address: "10.1.0.1:80", upstream: backend}
upstreams:
  backend: {servers: ["10.2.0.2:8081"]}
log: {access: off}
`

type options struct {
	seeds   int
	first   uint64
	bytes   int64
	cells   *regexp.Regexp
	binary  string
	limit   float64
	way     string
	verbose bool
}

func main() {
	lab.Child()
	var o options
	flag.IntVar(&o.seeds, "seeds", 5, "runs of each cell, each with a seed of its own")
	flag.Uint64Var(&o.first, "seed", 1, "the first seed")
	flag.Int64Var(&o.bytes, "bytes", 1<<20, "size of a body")
	flag.Float64Var(&o.limit, "limit", 1.3, "ratio to nginx that is still good")
	cells := flag.String("cells", "", "run only cells that match this regular expression, such as 'loss=0.05.*delay'")
	flag.StringVar(&o.binary, "binary", "", "ringroad `FILE` to run; built from this tree when not given")
	flag.StringVar(&o.way, "way", "", "only bodies that go this `WAY`, down or up")
	flag.BoolVar(&o.verbose, "v", false, "print every transfer")
	flag.Parse()
	var err error
	switch o.cells, err = regexp.Compile(*cells); {
	case err != nil:
	case o.way != "" && o.way != "down" && o.way != "up":
		err = fmt.Errorf("way %q: there are down and up", o.way)
	default:
		err = run(&o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		os.Exit(1)
	}
}

// cells are all combinations.
func cells() (list []faultlink.Options) {
	for _, delay := range []time.Duration{0, 10 * time.Millisecond} { // each way
		for _, loss := range []float64{0, 0.001, 0.01, 0.05} {
			for _, reorder := range []float64{0, 0.03} {
				for _, duplicate := range []float64{0, 0.01} {
					list = append(list, faultlink.Options{Loss: loss, Reorder: reorder, Duplicate: duplicate, Delay: delay})
				}
			}
		}
	}
	return list
}

// side is one of the two proxies in its lab.
type side struct {
	name     string
	lab      *lab.Lab
	ringroad *lab.Ringroad // nil: nginx
	want     string        // hash of a body
	body     []byte
}

func run(o *options) (err error) {
	nginx, ringroad := &side{name: "nginx"}, &side{name: "ringroad"}
	sides := []*side{nginx, ringroad}
	for _, s := range sides {
		if s.lab, err = lab.Up(lab.Options{ClientFault: &faultlink.Options{}}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.lab.Close()) }()
		if s.body, err = io.ReadAll(backend.Body("bytes", o.bytes)); err != nil {
			return err
		}
		if s.want, _, err = backend.Sum(bytes.NewReader(s.body)); err != nil {
			return err
		}
	}
	lab.CloseOnSignal(130, nginx.lab, ringroad.lab)
	if _, err := nginx.lab.StartNginx(nginx.lab.Edge, "edge", 1, nginxConfig, nil); err != nil {
		return err
	}
	if o.binary == "" {
		if o.binary, err = lab.BuildRingroad(ringroad.lab.Dir); err != nil {
			return err
		}
	}
	if ringroad.ringroad, err = ringroad.lab.StartRingroad(o.binary, ringroadConfig); err != nil {
		return err
	}
	if err := ringroad.ringroad.WaitReady(30 * time.Second); err != nil {
		return err
	}
	for _, s := range sides {
		if err := s.lab.Client.WaitTCP(front, 10*time.Second); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	missed := 0
	fmt.Printf("%-58s %26s %19s   %26s %19s\n", "link to the client (delay each way)", "down: nginx ringroad ratio", "stall", "up: nginx ringroad ratio", "stall")
	for _, cell := range cells() {
		name := cell.String()[len("seed=0"):]
		if !o.cells.MatchString(name) {
			continue
		}
		var down, up [2]series
		for seed := range uint64(o.seeds) {
			cell.Seed = o.first + seed
			for i, s := range sides {
				if err := s.measure(o, cell, &down[i], &up[i]); err != nil {
					return fmt.Errorf("%s, %v: %w", s.name, cell, err)
				}
			}
		}
		fmt.Printf("%-58s", name)
		for _, pair := range [][2]series{down, up} {
			a, b := pair[0], pair[1]
			if len(a.times) == 0 { // not asked for
				fmt.Printf("%50s", "")
				continue
			}
			ratio, mark := ratioOf(b.median(), a.median()), " "
			if ratio > o.limit {
				mark = "!"
				missed++
			}
			fmt.Printf(" %8.0f %8.0f %6.2fx%s %8.0f %8.0f ms  ", ms(a.median()), ms(b.median()), ratio, mark, ms(a.stall), ms(b.stall))
		}
		fmt.Println()
	}
	if missed > 0 {
		fmt.Printf("%d medians above %v times nginx's\n", missed, o.limit)
	}
	return nil
}

// series is what the runs of a cell took in one direction.
type series struct {
	times []time.Duration
	stall time.Duration // the longest of all
}

func (s *series) add(took, stall time.Duration) {
	s.times = append(s.times, took)
	s.stall = max(s.stall, stall)
}

func (s *series) median() time.Duration {
	sorted := slices.Sorted(slices.Values(s.times))
	return sorted[len(sorted)/2]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func ratioOf(a, b time.Duration) float64 { return float64(a) / float64(b) }

// measure sends a body each way over the link.
func (s *side) measure(o *options, link faultlink.Options, down, up *series) error {
	for _, transfer := range []struct {
		name   string
		f      func(*http.Client) (time.Duration, error)
		series *series
	}{{"down", s.download, down}, {"up", s.upload, up}} {
		if o.way != "" && transfer.name != o.way {
			continue
		}
		if err := s.lab.ClientWire.Set(link); err != nil {
			return err
		}
		c := &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
			DisableKeepAlives: true, WriteBufferSize: 64 << 10,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return s.lab.Client.Dial(ctx, network, address)
			},
		}}
		before, err := s.counters(o)
		if err != nil {
			return err
		}
		kernel, err := s.lab.Client.KernelTCP()
		if err != nil {
			return err
		}
		began := time.Now()
		stall, err := transfer.f(c)
		if err != nil {
			return err
		}
		took := time.Since(began)
		transfer.series.add(took, stall)
		if o.verbose {
			after, err := s.counters(o)
			if err != nil {
				return err
			}
			kernelAfter, err := s.lab.Client.KernelTCP()
			if err != nil {
				return err
			}
			fmt.Printf("  %-8s %-4s seed %-3d %6.0f ms, longest stall %.0f ms %s; client:%s\n", s.name, transfer.name, link.Seed, ms(took), ms(stall),
				tell(after.Moved(before), tellingOfRingroad), tell(kernelAfter.Moved(kernel), tellingOfClient))
		}
	}
	return nil
}

// counters are ringroad's, if they shall be printed.
func (s *side) counters(o *options) (lab.Stats, error) {
	if s.ringroad == nil || !o.verbose {
		return nil, nil
	}
	return s.ringroad.Snapshot()
}

// tell names the counters that tell what went wrong, and how far they moved.
func tell[M ~map[string]N, N float64 | uint64](moved M, telling *regexp.Regexp) (text string) {
	for _, path := range slices.Sorted(maps.Keys(moved)) {
		if telling.MatchString(path) {
			text += fmt.Sprintf(" %s %.0f", path[strings.LastIndexByte(path, '.')+1:], float64(moved[path]))
		}
	}
	return text
}

var (
	tellingOfRingroad = regexp.MustCompile(`^stack\..*(retransmits|timeouts|rearmed|guard_old_timestamps)$|undone$`)
	tellingOfClient   = regexp.MustCompile(`Retrans|Timeouts|LossProbe|DSACK|Undo|Reorder|SpuriousRTO|SackRecovery|PAWS`)
)

func (s *side) download(c *http.Client) (time.Duration, error) {
	began := time.Now()
	resp, err := c.Get(fmt.Sprintf("http://%s/bytes/%d", front, len(s.body)))
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	stalls := &backend.Stalls{Reader: resp.Body, Longest: time.Since(began)}
	sum, n, err := backend.Sum(stalls)
	if err == nil && sum != s.want {
		err = fmt.Errorf("%s: %d bytes that differ from those sent", resp.Status, n)
	}
	return stalls.Longest, err
}

func (s *side) upload(c *http.Client) (time.Duration, error) {
	r, err := http.NewRequest(http.MethodPut, "http://"+front+"/digest?stall", bytes.NewReader(s.body))
	if err != nil {
		return 0, err
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	var d backend.Upload
	if err = json.NewDecoder(resp.Body).Decode(&d); err == nil && d.SHA256 != s.want {
		err = fmt.Errorf("%s: %d bytes arrived that differ from those sent", resp.Status, d.Bytes)
	}
	return d.Stall, err
}
