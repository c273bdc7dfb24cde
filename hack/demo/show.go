package main

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringroad/hack/lab"
)

// reading is all that can be counted at one moment.
type reading struct {
	stats  lab.Stats
	kernel lab.KernelTCP
}

func read(l *lab.Lab, r *lab.Ringroad) (reading, error) {
	stats, err := r.Stats()
	if err != nil {
		return reading{}, err
	}
	kernel, err := l.Edge.KernelTCP()
	return reading{stats, kernel}, err
}

// show sends requests and prints what they moved. That nothing of them reached the kernel's TCP is checked, not only printed.
func show(p *progress, l *lab.Lab, r *lab.Ringroad) error {
	p.begin("curl, IPv6")
	if err := curl(l, url6); err != nil {
		return err
	}
	p.done("200, \"hello world\"")
	before, err := read(l, r)
	if err != nil {
		return err
	}
	p.begin("curl, IPv4")
	if err := curl(l, url4); err != nil {
		return err
	}
	p.done("200, \"hello world\"")
	after, err := read(l, r)
	if err != nil {
		return err
	}
	fmt.Print("\n        What this one request moved:\n")
	printMoved(after.stats.Moved(before.stats))
	if err := printKernel(after.kernel, before.kernel); err != nil {
		return err
	}
	fmt.Println()

	p.begin("wrk, 64 connections, 3 s")
	out, err := l.Client.Run(20*time.Second, "wrk", "-t1", "-c64", "-d3", "--timeout", "20", url4)
	if err != nil {
		return err
	}
	summary, err := wrkSummary(out)
	if err != nil {
		return err
	}
	p.done("%s", summary)
	loaded, err := l.Edge.KernelTCP()
	if err != nil {
		return err
	}
	return printKernel(loaded, after.kernel)
}

func curl(l *lab.Lab, url string) error {
	out, err := l.Client.Run(30*time.Second, "curl", "-sS", "-g", "-m", "20", "-w", "%{http_code}", url)
	if err == nil && out != "hello world\n200" {
		err = fmt.Errorf("%s answered %q", url, out)
	}
	return err
}

var (
	wrkRequests = regexp.MustCompile(`(\d+) requests in`)
	wrkRate     = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkErrors   = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*$`)
)

func wrkSummary(out string) (string, error) {
	requests, rate := wrkRequests.FindStringSubmatch(out), wrkRate.FindStringSubmatch(out)
	if requests == nil || rate == nil || wrkErrors.MatchString(out) {
		return "", fmt.Errorf("wrk reports errors:\n%s", out)
	}
	perSecond, err := strconv.ParseFloat(rate[1], 64)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s requests, %.0f a second, no error", requests[1], perSecond), nil
}

// groups are the parts of the way, top down as a frame meets them: the label and the paths of the numbers that belong to it.
var groups = []struct {
	label string
	path  *regexp.Regexp // the first subgroup, when there is one, is the place, the rest of the path the number's name
}{
	{"XDP verdicts", regexp.MustCompile(`^interfaces\.([^.]+)\.verdicts\.(.+)`)},
	{"AF_XDP rings", regexp.MustCompile(`^interfaces\.([^.]+)\.queues\.(?:\d+)\.(?:ours|kernel)\.(.+)`)},
	{"handover", regexp.MustCompile(`^handover()\.(.+)`)},
	{"netstack", regexp.MustCompile(`^stack()\.(.+)`)},
	{"proxy", regexp.MustCompile(`^proxy()\.(.+)`)},
}

// printMoved prints the numbers that moved, a line for each part and place. The queues of an interface are one place.
func printMoved(moved lab.Stats) {
	for _, g := range groups {
		places := map[string]map[string]float64{}
		for path, v := range moved {
			if m := g.path.FindStringSubmatch(path); m != nil {
				if places[m[1]] == nil {
					places[m[1]] = map[string]float64{}
				}
				places[m[1]][m[2]] += v
			}
		}
		for _, place := range slices.Sorted(maps.Keys(places)) {
			var items []string
			for _, name := range slices.Sorted(maps.Keys(places[place])) {
				items = append(items, fmt.Sprintf("%s %+.0f", name, places[place][name]))
			}
			printWrapped(strings.TrimSpace(g.label+" "+place), items)
		}
	}
}

// printWrapped prints a label and its items, in lines that fit a terminal.
func printWrapped(label string, items []string) {
	const indent, width = 25, 112
	line := fmt.Sprintf("        %-16s", label)
	for i, item := range items {
		if i < len(items)-1 {
			item += ","
		}
		if len(line)+1+len(item) > width {
			fmt.Println(line)
			line = strings.Repeat(" ", indent-1)
		}
		line += " " + item
	}
	fmt.Println(line)
}

// printKernel prints how much the edge's kernel TCP counted between two readings, and fails when that is anything at all.
func printKernel(now, since lab.KernelTCP) error {
	moved := now.Moved(since)
	printWrapped("kernel TCP", []string{
		fmt.Sprintf("%d segments in", moved["Tcp.InSegs"]), fmt.Sprintf("%d out", moved["Tcp.OutSegs"]),
		fmt.Sprintf("%d resets", moved["Tcp.OutRsts"]),
	})
	if len(moved) > 0 {
		return errors.New("the kernel's TCP in the edge took part: " + fmt.Sprint(moved))
	}
	return nil
}
