package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"ringroad/hack/lab"
)

// wrkScript has wrk send what a case asks for, and say at the end what came of it as one line of JSON; what it prints by itself has no
// 99.9th percentile. Without a function request, wrk runs no Lua while it measures.
const wrkScript = `{{if .Upload}}wrk.method = "POST"
wrk.body = string.rep("x", {{.Upload}})
{{end}}{{if .Chunked}}local request_text
function init()
	wrk.body = nil
	wrk.headers["Transfer-Encoding"] = "chunked"
	local chunk = string.rep("x", {{.Chunk}})
	local text = string.format("%x\r\n%s\r\n", #chunk, chunk)
	request_text = wrk.format() .. string.rep(text, {{.Upload}} / {{.Chunk}}) .. "0\r\n\r\n"
end
function request() return request_text end
{{else if .Pipeline}}local request_text
function init() request_text = string.rep(wrk.format(), {{.Pipeline}}) end
function request() return request_text end
{{end}}function done(summary, latency)
	local e = summary.errors
	io.write(string.format('\nbench {"requests":%d,"micros":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50":%g,"p99":%g,"p999":%g}\n',
		summary.requests, summary.duration, e.connect, e.read, e.write, e.status, e.timeout,
		latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`

// uploadChunkBytes is the size of the chunks of a chunked upload.
const uploadChunkBytes = 8 << 10

// writeWrkScript makes the script of a case in the lab's directory.
func writeWrkScript(l *lab.Lab, k *kase) (string, error) {
	path := filepath.Join(l.Dir, "wrk-"+k.name+".lua")
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	err = template.Must(template.New("wrk").Parse(wrkScript)).Execute(f, struct {
		Upload, Chunk, Pipeline int
		Chunked                 bool
	}{k.upload, uploadChunkBytes, k.pipeline, k.chunked})
	if e := f.Close(); err == nil {
		err = e
	}
	return path, err
}

// wrk runs a case's load against an address.
func wrk(l *lab.Lab, k *kase, address string, duration time.Duration) (load, error) {
	script, err := writeWrkScript(l, k)
	if err != nil {
		return load{}, err
	}
	args := []string{"-t1", fmt.Sprintf("-c%d", k.clients()), fmt.Sprintf("-d%.0f", duration.Seconds()), "--timeout", "5s", "-s", script}
	if k.closing == closedByProxy {
		args = append(args, "-H", "Connection: close")
	}
	out, err := l.Client.Run(duration+20*time.Second, "wrk", append(args, "http://"+address+k.target())...)
	if err != nil {
		return load{}, err
	}
	r, err := parseWrk(out)
	if k.pipeline > 0 {
		r.p50, r.p99, r.p999 = 0, 0, 0 // wrk's correction of latencies takes each response for a request of its own
	}
	return r, err
}

// load is what a client has seen.
type load struct {
	requests uint64
	rate     float64 // requests a second
	errors   uint64  // of connections, and answers that are neither 2xx nor 3xx
	said     string  // what the errors are
	p50      float64 // us
	p99      float64
	p999     float64
}

// parseWrk reads what the script prints.
func parseWrk(out string) (load, error) {
	var v struct {
		Requests, Micros                      uint64
		Connect, Read, Write, Status, Timeout uint64
		P50, P99, P999                        float64
	}
	_, line, ok := strings.Cut(out, "\nbench ")
	line, _, _ = strings.Cut(line, "\n")
	if !ok {
		return load{}, fmt.Errorf("wrk printed what cannot be read:\n%s", out)
	}
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		return load{}, fmt.Errorf("wrk printed %q: %w", line, err)
	}
	if v.Micros == 0 {
		return load{}, fmt.Errorf("wrk measured for no time at all:\n%s", out)
	}
	l := load{
		requests: v.Requests, rate: float64(v.Requests) / float64(v.Micros) * 1e6,
		errors: v.Connect + v.Read + v.Write + v.Status + v.Timeout,
		p50:    v.P50, p99: v.P99, p999: v.P999,
	}
	if l.errors > 0 {
		l.said = fmt.Sprintf("connect %d, read %d, write %d, status %d, timeout %d", v.Connect, v.Read, v.Write, v.Status, v.Timeout)
	}
	return l, nil
}
