package main

import "testing"

func TestParseWrk(t *testing.T) {
	for _, c := range []struct {
		name, out string
		want      sample
	}{
		{"clean", `Running 1s test @ http://10.1.0.1:80/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.10ms  123.00us   5.00ms   90.00%
    Req/Sec    57.31k     1.02k   58.00k    80.00%
  Latency Distribution
     50%    1.09ms
     75%    1.15ms
     90%    1.22ms
     99%  980.00us
  57310 requests in 1.00s, 9.18MB read
Requests/sec:  57309.42
Transfer/sec:      9.18MB
`, sample{Requests: 57310, RequestsPerSecond: 57309.42, P50Micros: 1090, P99Micros: 980}},
		{"errors", `  Latency Distribution
     50%    1.50s
     99%    2.00s
  10 requests in 1.00s, 9.18KB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:     10.00
`, sample{Requests: 10, RequestsPerSecond: 10, Errors: 15, P50Micros: 1.5e6, P99Micros: 2e6}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := parseWrk(c.out); err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
	if _, err := parseWrk("unable to connect"); err == nil {
		t.Error("nonsense is accepted")
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		rates []float64
		want  float64
	}{{[]float64{3}, 3}, {[]float64{9, 1, 4}, 4}, {[]float64{4, 1, 9, 2}, 3}} {
		r := &result{}
		for _, v := range c.rates {
			r.Samples = append(r.Samples, sample{RequestsPerSecond: v})
		}
		if got := r.median(rate); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.rates, got, c.want)
		}
	}
}

func TestParseContender(t *testing.T) {
	for _, c := range []struct {
		text string
		want contender
	}{
		{"nginx", contender{"nginx", 3}}, {"nginx-2", contender{"nginx", 2}}, {"ringroad-1", contender{"ringroad", 1}},
	} {
		if got, err := parseContender(c.text, 3); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", c.text, got, err)
		}
	}
	for _, text := range []string{"", "apache", "nginx-", "nginx-x", "nginx-0", "nginx-65", "nginx--1"} {
		if c, err := parseContender(text, 1); err == nil {
			t.Errorf("%q is accepted as %v", text, c)
		}
	}
}
