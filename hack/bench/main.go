package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/rss"
)

// options of one run of the benchmark.
type options struct {
	candidates []string
	cases      []*kase
	rounds     int
	duration   time.Duration // of a measurement, whole seconds
	limit      time.Duration
	latency    bool
	profiles   bool
	binary     string
	base       string
	settings   string // YAML lines added to ringroad's configuration
	jsonFile   string
	profileDir string // where the CPU profiles stay; "" means nowhere
	keep       string
	show       string
}

func main() {
	lab.Child()
	generatorChild()
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	if err == nil {
		err = run(o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := new(options)
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	candidates := set.String("candidates", "direct,nginx,haproxy,ringroad", "what to measure, of: "+strings.Join(candidateNames, ", "))
	names := set.String("cases", "", "loads to measure, separated by commas; all when not given")
	quick := set.Bool("quick", false, "less than three minutes: one round of two seconds of the cases that matter, without the open loop")
	list := set.Bool("list", false, "list the cases and end")
	set.IntVar(&o.rounds, "r", 3, "rounds")
	set.DurationVar(&o.duration, "d", 3*time.Second, "duration of a measurement, whole seconds")
	set.DurationVar(&o.limit, "limit", 90*time.Minute, "begin no measurement after this time")
	set.BoolVar(&o.latency, "latency", true, "measure latency at fixed rates, in the cases that have it")
	set.BoolVar(&o.profiles, "profile", true, "run ringroad once more in each case for its CPU profile")
	set.StringVar(&o.binary, "binary", "", "ringroad `FILE` to run; built from this tree when not given")
	set.StringVar(&o.base, "base", "", "another ringroad `FILE`, for the candidate base; -binary when not given")
	set.StringVar(&o.settings, "set", "", "more configuration for ringroad, but not for base, as `YAML`")
	set.StringVar(&o.jsonFile, "json", "", "write the results to this `FILE`")
	set.StringVar(&o.profileDir, "profiles", "", "leave the CPU profiles in this `FOLDER`, as CASE.pprof")
	set.StringVar(&o.keep, "keep", "", "keep the results as hack/bench/results/`NAME`.json and .html")
	set.StringVar(&o.show, "show", "", "measure nothing: print the result kept as `NAME`, and make its page anew")
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if *list {
		for _, k := range cases {
			fmt.Printf("%-14s %s\n", k.name, k.about)
		}
		return nil, flag.ErrHelp
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if *quick {
		if !given["r"] {
			o.rounds = 1
		}
		if !given["d"] {
			o.duration = 2 * time.Second
		}
		if !given["latency"] {
			o.latency = false
		}
	}
	if o.rounds < 0 || o.duration < time.Second || o.duration%time.Second != 0 || set.NArg() > 0 {
		return nil, errors.New("-r must not be negative, -d whole seconds, one at least, and there are no arguments beside flags")
	}
	if o.keep != "" && (o.keep != filepath.Base(o.keep) || strings.HasPrefix(o.keep, ".")) {
		return nil, fmt.Errorf("-keep %q: it names a file, without a folder or an extension", o.keep)
	}
	var err error
	if o.candidates, err = parseCandidates(*candidates); err != nil {
		return nil, err
	}
	o.cases, err = selectCases(*names, *quick)
	return o, err
}

func run(o *options) error {
	started := time.Now()
	b := &bench{options: o, labs: map[links]*lab.Lab{}, deadline: started.Add(o.limit)}
	b.report = &report{
		Started: started.UTC().Truncate(time.Second), Machine: describeMachine(), Versions: versions(),
		Rounds: o.rounds, Duration: o.duration.Seconds(), Settings: o.settings,
	}
	results, err := resultsDir()
	if err != nil {
		return err
	}
	if o.show != "" {
		return show(results, o.show)
	}
	if b.report.before, b.report.beforeName, err = keptBefore(results, b.report); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d cases; about %.0f minutes\n", len(o.cases), o.estimate().Minutes()+0.5)
	err = b.runAll()
	for _, l := range b.labs {
		l.EndedBySignal()
		err = errors.Join(err, l.Close())
	}
	if err != nil {
		return err
	}
	b.report.Seconds = time.Since(started).Seconds()
	b.report.print(os.Stdout)
	if o.jsonFile != "" {
		if err := b.report.writeJSON(o.jsonFile); err != nil {
			return err
		}
	}
	if o.keep == "" {
		return nil
	}
	return b.report.keep(results, o.keep)
}

// bench is one run.
type bench struct {
	*options
	labs     map[links]*lab.Lab
	dir      string // for profiles
	deadline time.Time
	report   *report
}

// What a measurement takes beside its duration: starting, connecting and stopping.
const overhead = warmUp + 1500*time.Millisecond

// estimate is how long a run will take.
func (o *options) estimate() time.Duration {
	total := 20 * time.Second // build, labs
	each := o.duration + overhead
	for _, k := range o.cases {
		n := len(o.of(k)) * o.rounds
		if o.latency && k.latency {
			n += len(o.of(k)) * len(openShares)
		}
		if o.profilesOf(k) {
			n++
		}
		total += time.Duration(n) * each
	}
	return total
}

func (b *bench) runAll() error {
	labs := map[links]bool{}
	for _, k := range b.cases {
		labs[k.links()] = true
	}
	var all []*lab.Lab
	for at := range labs {
		l, err := b.bringUp(at)
		if err != nil {
			return err
		}
		b.labs[at], all = l, append(all, l)
	}
	lab.CloseOnSignal(130, all...)
	b.dir = all[0].Dir
	if b.binary == "" {
		var err error
		if b.binary, err = lab.BuildRingroad(b.dir); err != nil {
			return err
		}
	}
	if b.base == "" {
		b.base = b.binary
	}
	if b.profileDir != "" {
		if err := os.MkdirAll(b.profileDir, 0o755); err != nil {
			return err
		}
	}
	for i, k := range b.cases {
		fmt.Fprintf(os.Stderr, "%s (%d of %d): %s\n", k.name, i+1, len(b.cases), k.about)
		r := &caseResult{Name: k.name, About: k.about}
		b.report.Cases = append(b.report.Cases, r)
		b.measureCase(r, k)
	}
	return nil
}

// files that backends serve.
var files = map[string]int64{"1k": 1 << 10, "64k": 64 << 10, "1m": 1 << 20}

func (b *bench) bringUp(at links) (*lab.Lab, error) {
	o := lab.Options{
		Queues: at.queues, Forward: true, Offloads: at.offloads, Files: files,
	}
	if at.rss {
		o.RSS = rss.DefaultKey
	}
	return lab.Up(o)
}

// measureCase runs the rounds of a case, then the open loop, then the profile. What fails is noted in its cell, and the others go on.
func (b *bench) measureCase(r *caseResult, k *kase) {
	l := b.labs[k.links()]
	for _, name := range b.of(k) {
		r.Cells = append(r.Cells, &cell{Candidate: name, Failed: cannot(name, k)})
	}
	for round := range b.rounds {
		for _, c := range r.Cells {
			if c.Failed != "" {
				continue
			}
			s, err := b.measureOne(l, k, c.Candidate)
			if err != nil {
				l.EndedBySignal()
				c.Failed = err.Error()
				fmt.Fprintf(os.Stderr, "  round %d of %d  %-13s failed: %v\n", round+1, b.rounds, c.Candidate, err)
				continue
			}
			c.Samples = append(c.Samples, s)
			fmt.Fprintf(os.Stderr, "  round %d of %d  %-13s %9.0f requests/s %s\n", round+1, b.rounds, c.Candidate, s.Rate, s.Said)
		}
	}
	if b.rounds > 0 {
		r.judge(k.targets)
	}
	if b.latency && k.latency {
		b.measureOpen(l, r, k)
	}
	if b.profilesOf(k) && time.Now().Before(b.deadline) {
		p, err := b.profileCase(l, k)
		if err != nil {
			l.EndedBySignal()
			fmt.Fprintf(os.Stderr, "  profile: %v\n", err)
		}
		r.Profile = p
	}
}

// profilesOf says whether a case gets a profile. In the idle case nothing would be seen.
func (o *options) profilesOf(k *kase) bool {
	wanted := false
	for _, c := range o.candidates {
		wanted = wanted || c == ringroad
	}
	return wanted && o.profiles && k.idle == 0
}

func (b *bench) profileCase(l *lab.Lab, k *kase) (*profile, error) {
	path := filepath.Join(b.dir, k.name+".pprof")
	if b.profileDir != "" {
		path = filepath.Join(b.profileDir, k.name+".pprof")
	}
	if err := b.profile(l, k, path); err != nil {
		return nil, err
	}
	return readProfile(path)
}

func (b *bench) measureOne(l *lab.Lab, k *kase, name string) (s sample, err error) {
	if !time.Now().Before(b.deadline) {
		return s, fmt.Errorf("not measured: the time of -limit %v was over", b.limit)
	}
	c, err := b.start(l, name, k, "")
	if err != nil {
		return s, err
	}
	defer c.stop()
	if s, err = c.measure(l, k, b.duration); err != nil {
		err = errors.Join(err, c.said())
	}
	return s, err
}

// openShares are the rates of the open loop, as parts of what the slowest candidate can do.
var openShares = []float64{0.3, 0.6, 0.8}

// measureOpen measures the latencies of all candidates at the same rates.
func (b *bench) measureOpen(l *lab.Lab, r *caseResult, k *kase) {
	slowest := 0.0
	for _, c := range r.Cells {
		if v := c.median(func(s *sample) float64 { return s.Rate }); c.invalid() == "" && (slowest == 0 || v < slowest) {
			slowest = v
		}
	}
	if slowest == 0 {
		return
	}
	for _, part := range openShares {
		for _, c := range r.Cells {
			if c.invalid() != "" {
				continue
			}
			o := openCell{Candidate: c.Candidate, Share: part, Rate: float64(int(slowest * part))}
			if err := b.measureRate(l, k, &o); err != nil {
				l.EndedBySignal()
				o.Failed = err.Error()
			}
			r.Open = append(r.Open, o)
			fmt.Fprintf(os.Stderr, "  open loop, %.0f requests/s  %-13s p50 %.0f us, p99 %.0f us %s\n", o.Rate, o.Candidate, o.P50, o.P99, o.invalid())
		}
	}
}

func (b *bench) measureRate(l *lab.Lab, k *kase, o *openCell) error {
	if !time.Now().Before(b.deadline) {
		return fmt.Errorf("not measured: the time of -limit %v was over", b.limit)
	}
	c, err := b.start(l, o.Candidate, k, "")
	if err != nil {
		return err
	}
	defer c.stop()
	g, err := generate(l, generatorArgs(k, c.address, "-rate", fmt.Sprint(o.Rate), "-warm", warmUp.String(), "-d", b.duration.String()), warmUp+b.duration+40*time.Second)
	if err != nil {
		return errors.Join(err, c.said())
	}
	o.P50, o.P99, o.P999, o.Late, o.Errors = g.P50, g.P99, g.P999, g.Late, g.Errors
	return nil
}
