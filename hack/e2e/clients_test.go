package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ringroad/hack/lab"
	"ringroad/hack/lab/backend"
)

// feature is a column of the table of clients: something that a client asks for, and what must come of it.
type feature string

const (
	canGet         feature = "get"          // a body
	canHead        feature = "head"         // the length without the body; the connection goes on
	canPost        feature = "post"         // a body with Content-Length reaches the backend so
	canPostChunked feature = "post_chunked" // and one in chunks so
	canExpect      feature = "expect"       // Expect: 100-continue reaches the backend, whose 100 the client gets before it sends a body
	canDownload    feature = "download"     // a large body arrives with its SHA-256, with a length and in chunks
	canUpload      feature = "upload"       // the same to the backend
	canReuse       feature = "reuse"        // ten requests take one connection, counted at ringroad
	canUpgrade     feature = "upgrade"      // the connection becomes a tunnel, and every byte comes back
	canBodyless    feature = "bodyless"     // 204 and 304 have no body; the connection goes on
	canInterim     feature = "interim"      // 103 reaches those that may get it, and the answer behind it everybody
)

var features = []feature{canGet, canHead, canPost, canPostChunked, canExpect, canDownload, canUpload, canReuse, canUpgrade, canBodyless, canInterim}

// cell is what one client does of one feature.
type cell struct {
	do     func(*testing.T, *site)
	reason string // why the client cannot do it, where do is nil
}

func does(f func(*testing.T, *site)) cell { return cell{do: f} }
func cannot(reason string) cell           { return cell{reason: reason} }

// site is where a cell finds what it asks for: the Go server behind ringroad.
type site struct {
	address string
	large   body // of download and upload
}

func (s *site) url(target string) string { return "http://" + s.address + target }

// body is a large one: a file to send, which /f/ of the backends serves too, and what /bytes/ sends.
type body struct {
	size              int64
	file              string
	fileSum, bytesSum string
}

func newBody(t *testing.T, name string, size int64) body {
	t.Helper()
	b := body{size: size, file: shared.Files + "/" + name}
	for seed, sum := range map[string]*string{name: &b.fileSum, "bytes": &b.bytesSum} {
		var err error
		if *sum, _, err = backend.Sum(backend.Body(seed, size)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// clients is the table. hundred tells that the large body is one of 100 MiB, not of 32.
var clients = []struct {
	name    string
	hundred bool
	cells   map[feature]cell
}{
	{"curl", true, map[feature]cell{
		canGet: does(func(t *testing.T, s *site) {
			for _, version := range []string{"--http1.1", "--http1.0"} {
				same(t, curl(t, version, s.url("/")), hello)
			}
		}),
		canHead: does(func(t *testing.T, s *site) {
			out := curl(t, "-w", "%{num_connects}\n", "-I", s.url("/bytes/5000"), "--next", "-sSf", "-w", "%{num_connects}\n", s.url("/"))
			mustMatch(t, out, `^HTTP/1\.1 200 OK\r\n`, `\r\nContent-Length: 5000\r\n`, `\r\n\r\n1\n`+hello+`0\n$`)
		}),
		canPost: does(func(t *testing.T, s *site) { checkDigest(t, curl(t, "-d", small, s.url("/digest")), false, false) }),
		canPostChunked: does(func(t *testing.T, s *site) {
			checkDigest(t, curl(t, "-H", chunked, "-d", small, s.url("/digest")), true, false)
		}),
		canExpect: does(func(t *testing.T, s *site) {
			// It would send the body without 100 (Continue) after a second.
			for _, framing := range []string{"X: fixed", chunked} {
				out := curl(t, "-i", "--expect100-timeout", "60", "-H", "Expect: 100-continue", "-H", framing, "-d", small, s.url("/digest"))
				heads, answer, _ := cutLast(out, "\r\n\r\n")
				mustMatch(t, heads, `^HTTP/1\.1 100 Continue\r\n\r\nHTTP/1\.1 200 OK\r\n`)
				checkDigest(t, answer, framing == chunked, true)
			}
		}),
		canDownload: does(func(t *testing.T, s *site) {
			for _, query := range []string{"", "?chunked"} {
				checkSum(t, s, shared.Client.Exec("curl", "-sSf", "-m", "60", s.url(fmt.Sprintf("/bytes/%d%s", s.large.size, query))))
			}
		}),
		canUpload: does(func(t *testing.T, s *site) {
			for _, source := range []string{s.large.file, "-"} { // standard input goes in chunks
				script := fmt.Sprintf("exec curl -sSf -m 60 -T %s %s <%s", source, s.url("/digest"), s.large.file)
				checkUpload(t, s, inClient(t, time.Minute, "sh", "-c", script), source == "-")
			}
		}),
		canReuse: does(func(t *testing.T, s *site) {
			out := curl(t, append([]string{"-w", "%{num_connects}\n"}, tenTimes(s.url("/"))...)...)
			same(t, out, hello+"1\n"+strings.Repeat(hello+"0\n", 9))
		}),
		canUpgrade: cannot("it sends nothing behind the head of a request for an upgrade"),
		canBodyless: does(func(t *testing.T, s *site) {
			out := curl(t, "-i", "-w", "%{num_connects}\n", s.url("/status/204"), s.url("/status/304"), s.url("/"))
			mustMatch(t, out, `(?s)^HTTP/1\.1 204 .*\r\n\r\n1\nHTTP/1\.1 304 .*\r\n\r\n0\nHTTP/1\.1 200 .*\r\n\r\n`+hello+`0\n$`)
		}),
		canInterim: does(func(t *testing.T, s *site) {
			mustMatch(t, curl(t, "-i", s.url("/early")), `(?s)^HTTP/1\.1 103 Early Hints\r\nLink: .*\r\n\r\nHTTP/1\.1 200 .*\r\n\r\n`+hello+`$`)
		}),
	}},
	{"wget", false, map[feature]cell{
		canGet: does(func(t *testing.T, s *site) { same(t, wget(t, s.url("/")), hello) }),
		canHead: does(func(t *testing.T, s *site) {
			// It goes on with HEAD.
			out, err := wgetTold("--method=HEAD", s.url("/bytes/5000"), s.url("/"))
			if err != nil {
				t.Error(err)
			}
			mustMatch(t, out, `HTTP/1\.1 200 OK\n +Content-Length: 5000\n`, `(?s)Reusing existing connection.* 200 OK\n.* Content-Length: 12\n`)
		}),
		canPost: does(func(t *testing.T, s *site) {
			checkDigest(t, wget(t, "--post-data="+small, s.url("/digest")), false, false)
		}),
		canPostChunked: cannot("it sends bodies with a length"),
		canExpect: does(func(t *testing.T, s *site) {
			// It sends the body at once, and passes over the 100 (Continue).
			checkDigest(t, wget(t, "--header=Expect: 100-continue", "--post-data="+small, s.url("/digest")), false, true)
		}),
		canDownload: does(func(t *testing.T, s *site) {
			for _, query := range []string{"", "?chunked"} {
				checkSum(t, s, shared.Client.Exec("wget", wgetArgs("-q", s.url(fmt.Sprintf("/bytes/%d%s", s.large.size, query)))...))
			}
		}),
		canUpload: does(func(t *testing.T, s *site) {
			checkUpload(t, s, wget(t, "--method=PUT", "--body-file="+s.large.file, s.url("/digest")), false)
		}),
		canReuse: does(func(t *testing.T, s *site) {
			same(t, wget(t, tenTimes(s.url("/"))...), strings.Repeat(hello, 10))
		}),
		canUpgrade: cannot("it has no upgrades"),
		canBodyless: does(func(t *testing.T, s *site) {
			// It takes 304 for an error, and fetches the next in spite of it.
			out, err := wgetTold(s.url("/status/204"), s.url("/status/304"), s.url("/"))
			if err == nil {
				t.Errorf("304 is no error: %s", out)
			}
			mustMatch(t, out, `HTTP/1\.1 204 `, `HTTP/1\.1 304 `, `ERROR 304`, `HTTP/1\.1 200 `, hello)
			if n := strings.Count(out, "Reusing existing connection"); n != 2 {
				t.Errorf("the connection was used %d times again: %s", n, out)
			}
		}),
		canInterim: does(func(t *testing.T, s *site) { same(t, wget(t, s.url("/early")), hello) }),
	}},
	{"ab", false, map[feature]cell{
		canGet:  does(func(t *testing.T, s *site) { ab(t, s, 3, "/bytes/5000", 5000) }),
		canHead: does(func(t *testing.T, s *site) { ab(t, s, 3, "/bytes/5000", 0, "-i") }),
		canPost: does(func(t *testing.T, s *site) {
			ab(t, s, 3, "/digest?sha256="+smallSum, anySize, "-T", "text/plain", "-p", writeFile(t, "small", small))
		}),
		canPostChunked: cannot("it speaks HTTP/1.0, which has no chunks"),
		canExpect:      cannot("it speaks HTTP/1.0, which has no expectations"),
		// It keeps no body that a digest could be taken of.
		canDownload: does(func(t *testing.T, s *site) { ab(t, s, 2, fmt.Sprintf("/bytes/%d", s.large.size), s.large.size) }),
		canUpload: does(func(t *testing.T, s *site) {
			ab(t, s, 2, "/digest?sha256="+s.large.fileSum, anySize, "-T", "text/plain", "-p", s.large.file)
		}),
		canReuse:    does(func(t *testing.T, s *site) { ab(t, s, 10, "/", int64(len(hello))) }),
		canUpgrade:  cannot("it speaks HTTP/1.0, which has no upgrades"),
		canBodyless: does(func(t *testing.T, s *site) { ab(t, s, 3, "/status/204", 0); ab(t, s, 3, "/status/304", 0) }),
		canInterim:  does(func(t *testing.T, s *site) { ab(t, s, 3, "/early", int64(len(hello))) }), // it speaks HTTP/1.0, and gets no 103
	}},
	{"h2load", false, map[feature]cell{
		canGet:  does(func(t *testing.T, s *site) { h2load(t, s, 3, "/bytes/5000?chunked", 5000) }),
		canHead: cannot("it waits for the body whose length the answer to HEAD tells"),
		canPost: does(func(t *testing.T, s *site) {
			h2load(t, s, 3, "/digest?sha256="+smallSum, anySize, "-d", writeFile(t, "small", small))
		}),
		canPostChunked: cannot("it sends bodies with a length"),
		canExpect: does(func(t *testing.T, s *site) {
			// It sends the body at once, and passes over the 100 (Continue).
			h2load(t, s, 3, "/digest?sha256="+smallSum, anySize, "-H", "Expect: 100-continue", "-d", writeFile(t, "small", small))
		}),
		canDownload: does(func(t *testing.T, s *site) {
			// It keeps no body that a digest could be taken of.
			h2load(t, s, 1, fmt.Sprintf("/bytes/%d", s.large.size), s.large.size)
			h2load(t, s, 1, fmt.Sprintf("/bytes/%d?chunked", s.large.size), s.large.size)
		}),
		canUpload: does(func(t *testing.T, s *site) {
			h2load(t, s, 2, "/digest?sha256="+s.large.fileSum, anySize, "-d", s.large.file)
		}),
		canReuse:    does(func(t *testing.T, s *site) { h2load(t, s, 10, "/", int64(len(hello))) }),
		canUpgrade:  cannot("it has no upgrade but that to HTTP/2"),
		canBodyless: does(func(t *testing.T, s *site) { h2load(t, s, 3, "/status/204", 0); h2load(t, s, 3, "/status/304", 0) }),
		canInterim:  does(func(t *testing.T, s *site) { h2load(t, s, 3, "/early", int64(len(hello))) }),
	}},
	{"python", false, with(script("/usr/bin/python3", "testdata/client.py"), canInterim, cannot("http.client takes a 103 for the answer"))},
	{"node", false, script("node", "testdata/client.js")},
	{"Go", false, goCells},
	{"WebSocket", false, webSocketCells},
}

// script is a client that has every feature: a program that gets the feature and the site as arguments and prints ok.
func script(interpreter, path string) map[feature]cell {
	cells := map[feature]cell{}
	for _, f := range features {
		cells[f] = does(func(t *testing.T, s *site) {
			l := &s.large
			same(t, inClient(t, time.Minute, interpreter, path, string(f), s.address, l.file, l.fileSum, fmt.Sprint(l.size), l.bytesSum), "ok\n")
		})
	}
	return cells
}

func with(cells map[feature]cell, f feature, c cell) map[feature]cell {
	cells[f] = c
	return cells
}

// small is the body of the features that send one.
const (
	small    = "one two three"
	smallSum = "6899ee404683a14e8c2a03149860df25d67d34d9cd4dae7350cbe91e4b3976be"
	chunked  = "Transfer-Encoding: chunked"
)

// forClients is bothFamilies with the protocol of /upgrade.
var forClients = strings.ReplaceAll(bothFamilies, ":81\",", ":81\", upgrade: [websocket, echo],")

// TestClients runs the programs and libraries that people use.
func TestClients(t *testing.T) {
	for _, client := range clients {
		for _, f := range features {
			if c := client.cells[f]; (c.do == nil) == (c.reason == "") {
				t.Fatalf("the table does not say what %s does of %s", client.name, f)
			}
		}
	}
	r := start(t, forClients)
	hundred, large := newBody(t, "100m", 100*mib), newBody(t, "32m", 32*mib)
	families(t, func(t *testing.T, _, goServer string) {
		for _, f := range features {
			t.Run(string(f), func(t *testing.T) {
				for _, client := range clients {
					c := client.cells[f]
					if c.do == nil {
						t.Logf("%s cannot: %s", client.name, c.reason)
						continue
					}
					t.Run(client.name, func(t *testing.T) {
						s := &site{address: goServer, large: large}
						if client.hundred {
							s.large = hundred
						}
						if f == canReuse {
							mustConnect(t, r, 1, func() { c.do(t, s) })
							return
						}
						c.do(t, s)
					})
				}
			})
		}
	})
}

// mustConnect checks how many connections of clients f makes.
func mustConnect(t *testing.T, r *lab.Ringroad, want float64, f func()) {
	t.Helper()
	before := stats(t, r)["proxy.clients_accepted"]
	f()
	if made := stats(t, r)["proxy.clients_accepted"] - before; made != want {
		t.Errorf("%.0f connections, want %.0f", made, want)
	}
}
