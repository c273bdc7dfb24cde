package config

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxBodyBytes bounds the body of a `return` and an error page. The proxy sends
// such an answer from one of the buffers that responses pass through.
const maxBodyBytes = 32 << 10

// Redirect answers requests with the address of something else.
type Redirect struct {
	Status   int    // 301, 302, 303, 307 or 308
	Location string // value of the Location field; may hold variables, see ParseText
}

// Return answers requests with a fixed text.
type Return struct {
	Status int    // 200 to 599, none that needs a Location
	Body   string // "": none, or for an error the error page of the status
	Type   string // value of the Content-Type field
}

// ErrorPage is a file that is the body of the answers of the proxy itself with a
// status.
type ErrorPage struct {
	Status int // 400 to 599
	File   string
}

// MaxErrorPageBytes is the size that the file of an error page may have.
const MaxErrorPageBytes = maxBodyBytes

// pageTypes are the extensions that an error page may have.
var pageTypes = map[string]string{
	".htm":  "text/html",
	".html": "text/html",
	".json": "application/json",
	".svg":  "image/svg+xml",
	".txt":  "text/plain",
	".xml":  "application/xml",
}

// ContentType is the media type of the page, by the extension of its file.
func (p *ErrorPage) ContentType() string { return pageTypes[strings.ToLower(path.Ext(p.File))] }

// Answers tells whether the route answers requests itself and so needs no upstream.
func (r *Route) Answers() bool { return r.Redirect != nil || r.Return != nil }

// locationStart is how a Location may begin: with a host that the configuration
// or the request names, or with a path. "//" and "/$request_uri" would leave the
// choice of the host to whoever made the link.
var locationStart = regexp.MustCompile(`^(https?://(\$host|\$\{host\}|[A-Za-z0-9\[])|/([^/\\$]|$))`)

// answers checks what routes and error pages answer.
func (v *checker) answers() {
	v.errorPages("error_pages", v.c.ErrorPages)
	for i := range v.c.Listeners {
		l := &v.c.Listeners[i]
		v.errorPages(fmt.Sprintf("listeners[%d].error_pages", i), l.ErrorPages)
		for j := range l.Routes {
			r, path := &l.Routes[j], routePath(v.c, i, j)
			given := 0
			for _, is := range []bool{r.Upstream != "", r.Redirect != nil, r.Return != nil} {
				if is {
					given++
				}
			}
			if given > 1 {
				v.failf(path, "", "has more than one of upstream, redirect and return: a request goes one way")
			}
			if r.Redirect != nil {
				v.location(path+".redirect.location", r.Redirect.Location)
			}
			if r.Return != nil {
				v.returns(path+".return", r.Return)
			}
		}
	}
}

func (v *checker) location(path, location string) {
	if location == "" {
		return // reported as missing
	}
	if _, err := ParseText(location); err != nil {
		v.failf(path, "", "%v", err)
		return
	}
	if !locationStart.MatchString(location) {
		v.failf(path, "", "%q does not begin with http://HOST, https://HOST (a name, an address or $host) or one slash", location)
	}
	if i := strings.IndexFunc(location, func(r rune) bool { return r <= ' ' || r >= 0x7f }); i >= 0 {
		v.failf(path, "", "%q has characters that an address never has: write them as %%XX", location)
	}
}

func (v *checker) returns(path string, r *Return) {
	switch {
	case slices.Contains([]int{301, 302, 303, 307, 308}, r.Status):
		v.failf(path+".status", "redirect", "%d needs a Location", r.Status)
	case (r.Status == 204 || r.Status == 205 || r.Status == 304) && r.Body != "":
		v.failf(path+".body", "", "an answer %d has no body (RFC 9110 15)", r.Status)
	case len(r.Body) > maxBodyBytes:
		v.failf(path+".body", "", "is longer than %s", formatSize(maxBodyBytes))
	case !utf8.ValidString(r.Body):
		v.failf(path+".body", "", "is not UTF-8")
	}
	if !mediaType.MatchString(r.Type) && r.Body != "" {
		v.failf(path+".type", "", "%q is not a media type such as text/plain", r.Type)
	}
}

// mediaType is a media type with simple parameters (RFC 9110 8.3.1).
var mediaType = regexp.MustCompile(`^[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+( ?; ?[a-z0-9-]+=[A-Za-z0-9_.-]+)*$`)

func (v *checker) errorPages(path string, pages []ErrorPage) {
	for i := range pages {
		p := &pages[i]
		at := fmt.Sprintf("%s.%d", path, p.Status)
		switch {
		case p.Status < 400 || p.Status > 599:
			v.failf(at, "", "%d is not the status of an error: 400 to 599", p.Status)
		case p.File == "":
			v.failf(at, "", "is empty")
		case p.ContentType() == "":
			v.failf(at, "", "the type of %s is not known: name it .html, .txt, .json, .xml or .svg", p.File)
		case slices.ContainsFunc(pages[:i], func(o ErrorPage) bool { return o.Status == p.Status }):
			v.failf(at, "", "%d has two pages", p.Status)
		}
	}
}
