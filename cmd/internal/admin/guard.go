package admin

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"ringroad/proxy/config"
)

// guard refuses what a browser sends on behalf of a page of somebody else, for whom
// loopback is as near as for the user who has the page open. There is no password
// that such a request would lack.
//
//   - A page whose own name was made to resolve to 127.0.0.1 (DNS rebinding) is the
//     same site to the browser, but the Host that it sends is that name. On loopback the
//     endpoint goes by an address or as localhost, and by nothing else.
//   - A page that only names the endpoint, in an image, a form or a script, is another
//     site, and says so: Sec-Fetch-Site, or Origin where a browser is older.
//
// What is not a browser sends neither, and whatever Host it was told.
func guard(next http.Handler, a config.AdminAddress, log *slog.Logger) http.Handler {
	loopback := a.TCP.Addr().IsLoopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		why := ""
		switch site := r.Header.Get("Sec-Fetch-Site"); {
		case loopback && !local(r.Host):
			why = "the endpoint goes by an IP address or localhost: another Host may be a name that a page made resolve to it"
		case site != "" && site != "same-origin" && site != "none":
			why = "a page of another site may not ask here"
		case r.Header.Get("Origin") != "" && r.Header.Get("Origin") != "http://"+r.Host:
			why = "a page of another origin may not ask here"
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if why != "" {
			log.Debug("the admin endpoint refused a request", "path", r.URL.Path, "reason", why)
			http.Error(w, why, http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// local tells whether a Host is an IP address, localhost or a name below it, which
// browsers never ask the DNS for. Empty: HTTP/1.0, which no browser speaks.
func local(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}
