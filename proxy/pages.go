package proxy

import (
	"fmt"
	"io"
	"os"

	"ringroad/proxy/config"
)

// errorPage is the body of answers of our own.
type errorPage struct {
	body []byte
	kind string // Content-Type
}

// errorPages holds pages by status, from 400 on.
type errorPages [200]*errorPage

// of returns the page for a status, nil for the built-in one.
func (p *errorPages) of(status int) *errorPage {
	if p == nil || status < 400 || status >= 400+len(p) {
		return nil
	}
	return p[status-400]
}

// pages are error pages by the name of their file: each is read once for all
// listeners.
type pages struct {
	given map[string][]byte // nil: they are read from disk
	have  map[string]*errorPage
}

// newPages collects the error pages of a listener; nil when there are none.
func (s *settings) newPages(l *config.Listener, read *pages) (*errorPages, error) {
	var pages *errorPages
	for _, list := range [][]config.ErrorPage{s.config.ErrorPages, l.ErrorPages} {
		for i := range list {
			c := &list[i]
			p, err := read.page(c)
			if err != nil {
				return nil, err
			}
			if pages == nil {
				pages = new(errorPages)
			}
			pages[c.Status-400] = p
		}
	}
	return pages, nil
}

func (p *pages) page(c *config.ErrorPage) (*errorPage, error) {
	if page := p.have[c.File]; page != nil {
		return page, nil
	}
	body, given := p.given[c.File]
	if p.given != nil && !given {
		return nil, fmt.Errorf("error page for %d: %s was not read", c.Status, c.File)
	}
	if p.given == nil {
		var err error
		if body, err = readPage(c); err != nil {
			return nil, err
		}
	}
	if p.have == nil {
		p.have = make(map[string]*errorPage)
	}
	page := &errorPage{body: body, kind: c.ContentType()}
	p.have[c.File] = page
	return page, nil
}

// ReadPages reads the error pages of a configuration, for workers that cannot open
// files. The keys are the names of the files.
func ReadPages(c *config.Config) (map[string][]byte, error) {
	pages := make(map[string][]byte)
	lists := [][]config.ErrorPage{c.ErrorPages}
	for i := range c.Listeners {
		lists = append(lists, c.Listeners[i].ErrorPages)
	}
	for _, list := range lists {
		for i := range list {
			if _, read := pages[list[i].File]; read {
				continue
			}
			body, err := readPage(&list[i])
			if err != nil {
				return nil, err
			}
			pages[list[i].File] = body
		}
	}
	return pages, nil
}

func readPage(c *config.ErrorPage) ([]byte, error) {
	b, err := readFile(c.File, config.MaxErrorPageBytes)
	if err != nil {
		return nil, fmt.Errorf("read error page for %d: %w", c.Status, err)
	}
	return b, nil
}

func readFile(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(b) > most {
		err = fmt.Errorf("%s is longer than %d bytes: make it smaller, or let it refer to a file elsewhere", name, most)
	}
	return b, err
}
