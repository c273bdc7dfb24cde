package config

// key is one key of the configuration: a row of the table.
type key struct {
	// path names the key from the top of the document. "[]" stands for each
	// element of a list and a word in capitals for each name that the operator
	// chose: NAME holds a section, FIELD and STATUS a value.
	path string
	kind kind
	// unit is what a bare number counts; "" where there are no numbers.
	unit string
	// def is the default as a file would say it; "" valid iff the key has none.
	def string
	// min and max are the range as a file would say it; "" means no bound.
	min, max string
	// values are the words of an enumeration. Where the kind is not one, the first
	// word stands for zero ("auto", "off"), and the kind knows the others.
	values []string
	// flag is the long name of the flag that sets the key, usage its help text;
	// "" for none. A key of a list has a flag that may repeat.
	flag, usage string
	// empty tells that a list may be empty, which is not the same as not given.
	empty bool
	// need tells that there is no default and a configuration must say it.
	need bool
	// fixed tells that the key belongs to the sockets, rings or processes, so
	// that no reload can change it.
	fixed bool
	// about says what the key does and why the default is what it is.
	about string
	// at returns a pointer to the value within s, nil when s has no such section.
	// A pointer to a slice takes elements one by one. nil valid iff kind is section.
	at func(s *scope) any
	// open makes the section within s; nil where it always exists.
	open func(s *scope)
}

// scope is where keys find their values: the configuration and the elements of
// its lists that are being visited.
type scope struct {
	config   *Config
	listener *Listener
	route    *Route
	upstream *Upstream
	direct   string // upstream named by a listener without routes
}

// table lists every key, in the order of the reference.
var table = []key{
	{
		path: "interfaces[]", kind: interfaceName, need: true, fixed: true,
		flag: "interface", usage: "serve the traffic of network interface `NAME` (may repeat)",
		about: "Network interfaces whose traffic for the listeners is served. Each gets the steering program and one AF_XDP socket a receive queue. Everything else that arrives on them goes to the kernel as before.",
		at:    func(s *scope) any { return &s.config.Interfaces },
	},
	{
		path: "workers", kind: count, unit: "processes", def: "auto", min: "1", max: "64", values: []string{"auto"}, fixed: true,
		about: "Worker processes. Worker w of N serves the receive queues w, w+N, w+2N and so on of every interface. `auto` is one for each queue, of the interface that has the fewest; more than that would have nothing to receive and are refused.",
		at:    func(s *scope) any { return &s.config.Workers },
	},
	{
		path: "cpu_affinity[]", kind: cpu, def: "auto", values: []string{"auto", "off"}, fixed: true,
		about: "CPUs that workers run on. A list gives worker w its w-th CPU, and begins again where it is shorter; `off` leaves it to the kernel. `auto` puts worker w on the w-th CPU that the process may use when that gives each the same number of workers, or when workers poll (`wait: spin`, `busy_poll`) and there are CPUs enough; otherwise it leaves it to the kernel, because a pinned worker waits for its CPU while others idle.",
		at:    func(s *scope) any { return &s.config.CPUAffinity },
	},
	{
		path: "user", kind: userName, def: "nobody", fixed: true,
		about: "User, by name or number, that workers become once their sockets are open, with its primary group and no other. They can then open no file that others cannot. With `root` they stay root, without any capability all the same.",
		at:    func(s *scope) any { return &s.config.User },
	},
	{
		path: "pid_file", kind: file, def: "off", values: []string{"off"}, fixed: true,
		about: "File that the number of the master process is written to; removed at the end. Whoever uses `ringroad reload` or systemd needs none.",
		at:    func(s *scope) any { return &s.config.PIDFile },
	},
	{
		path: "watchdog", kind: duration, def: "10s", min: "1s", max: "10m",
		about: "How long the loop of a worker may be silent. Then it is reported with what it was doing, and the worker is replaced; only the connections of its queues are lost.",
		at:    func(s *scope) any { return &s.config.Watchdog },
	},
	{
		path: "admin", kind: address, def: "127.0.0.1:9901", values: []string{"off"}, fixed: true,
		flag: "admin", usage: "serve /metrics, /status and /healthz on `ADDRESS`: IP:PORT, or unix:PATH",
		about: "Address, on the kernel's own stack, of the admin endpoint, which serves `/metrics` for Prometheus, `/status` (JSON) and `/healthz`: IP and port, or `unix:` and the path of a socket, `unix:/run/ringroad/admin.sock`, which the user and the group of the master may open. Where the default is in use already, by another ringroad say, there is none, with a warning. An address outside loopback shows the state of the proxy to everybody who can reach it, and is warned of.",
		at:    func(s *scope) any { return &s.config.Admin },
	},
	{
		path: "pprof", kind: boolean, def: "off", fixed: true,
		about: "Whether the admin endpoint gives profiles for `go tool pprof`: of the master under `/debug/pprof/`, of worker 0 under `/debug/pprof/worker/0/profile?seconds=10` (CPU), `.../heap?gc=1` (after a collection) and so on. Taking one slows the process a little, and whoever can reach the endpoint can do it.",
		at:    func(s *scope) any { return &s.config.PProf },
	},
	{
		path: "listeners[]", kind: section, need: true,
		about: "Addresses that clients connect to.",
	},
	{
		path: "listeners[].address", kind: address, need: true,
		flag: "listen", usage: "listen on `ADDRESS`: IP:PORT, or :PORT for every IPv4 and IPv6 address (may repeat)",
		about: "IP address and port. `0.0.0.0` stands for all IPv4 addresses of the interfaces, `[::]` for all IPv6 addresses (and no IPv4 address). YAML wants quotes around an address in brackets: `\"[::]:80\"`.",
		at:    func(s *scope) any { return &s.listener.Address },
	},
	{
		path: "listeners[].backlog", kind: count, unit: "connections", def: "4096", min: "1", max: "65535",
		about: "Capacity of the SYN queue and of the accept queue. The default is the kernel's `net.core.somaxconn`.",
		at:    func(s *scope) any { return &s.listener.Backlog },
	},
	{
		path: "listeners[].proxy_protocol", kind: boolean, def: "off",
		about: "Whether each connection begins with a PROXY protocol header, version 1 or 2, as load balancers send it. The client that it names counts as the client, for `X-Forwarded-For` and in the logs; a header that names none (`UNKNOWN`, `LOCAL`) leaves the address of the connection. With `on`, connections without the header are cut off: whoever can connect must be trusted to name any client.",
		at:    func(s *scope) any { return &s.listener.ProxyProtocol },
	},
	{
		path: "listeners[].upgrade[]", kind: protocol, def: "websocket", empty: true,
		about: "Protocols that a client may upgrade its connection to (RFC 9110 7.8). When the backend agrees, the connection becomes a tunnel. A request for another one, for several of which one is not listed, or with a body, goes on as an ordinary request; `[]` allows none.",
		at:    func(s *scope) any { return &s.listener.Upgrade },
	},
	{
		path: "listeners[].connect", kind: boolean, def: "off",
		about: "Whether CONNECT is sent to the backend of its route, which becomes the other end of a tunnel when it answers 2xx. Only routes without `path` match. Off, it is answered 501.",
		at:    func(s *scope) any { return &s.listener.Connect },
	},
	{
		path: "listeners[].upstream", kind: reference,
		about: "Upstream for every request of the listener; instead of `routes`.",
		at:    func(s *scope) any { return &s.direct },
	},
	{
		path: "listeners[].request.set.FIELD", kind: fieldText,
		about: "Fields that requests of the listener have when they are forwarded, in place of what the client sent under the name. A value may hold `$host` (the host that the request is for, without the port), `$remote_addr` (the client's address), `$request_uri` (path and query as received) and `$scheme`; `$$` is a dollar. Fields that frame a message or belong to one connection are refused. Names that CGI cannot tell from it are taken away with it: `X_A` with `X-A`. `Host` may be set to a fixed value; what is said about the fields of `x_forwarded` and `forwarded` goes before these keys.",
		at:    func(s *scope) any { return &s.listener.Request.Set },
	},
	{
		path: "listeners[].request.add.FIELD", kind: fieldText,
		about: "Fields that are added to those that the requests have.",
		at:    func(s *scope) any { return &s.listener.Request.Add },
	},
	{
		path: "listeners[].request.remove[]", kind: fieldName,
		about: "Fields that are left out of the requests, by their names.",
		at:    func(s *scope) any { return &s.listener.Request.Remove },
	},
	{
		path: "listeners[].response.set.FIELD", kind: fieldText,
		about: "The same for responses, those of `redirect` and `return` and the error answers of a route included.",
		at:    func(s *scope) any { return &s.listener.Response.Set },
	},
	{
		path: "listeners[].response.add.FIELD", kind: fieldText,
		about: "Fields that are added to those that the responses have.",
		at:    func(s *scope) any { return &s.listener.Response.Add },
	},
	{
		path: "listeners[].response.remove[]", kind: fieldName,
		about: "Fields that are left out of the responses, by their names.",
		at:    func(s *scope) any { return &s.listener.Response.Remove },
	},
	{
		path: "listeners[].error_pages.STATUS", kind: file,
		about: "As `error_pages`, for one listener.",
		at:    func(s *scope) any { return &s.listener.ErrorPages },
	},
	{
		path: "listeners[].routes[]", kind: section,
		about: "Rules that say what becomes of a request; the first that matches wins. A request that none matches is answered 404.",
	},
	{
		path: "listeners[].routes[].host", kind: hostPattern,
		about: "Host that the route is for, without a port: a name, an address, or `\"*.example.org\"` for every name below `example.org`. Without it the route is for every host.",
		at:    func(s *scope) any { return &s.route.Host },
	},
	{
		path: "listeners[].routes[].path", kind: pathPrefix,
		about: "Start of the path that the route is for, compared byte by byte with the request target as received. End it with `/` unless `/v1` shall match `/v10` too.",
		at:    func(s *scope) any { return &s.route.Path },
	},
	{
		path: "listeners[].routes[].upstream", kind: reference, need: true,
		about: "Upstream for the requests that match; or else `redirect` or `return`.",
		at:    func(s *scope) any { return &s.route.Upstream },
	},
	{
		path: "listeners[].routes[].upgrade[]", kind: protocol, empty: true,
		about: "As `listeners[].upgrade`, for the requests that match. Without it, that of the listener counts.",
		at:    func(s *scope) any { return &s.route.Upgrade },
	},
	{
		path: "listeners[].routes[].connect", kind: word, values: []string{"off", "on"},
		about: "As `listeners[].connect`, for the requests that match. Without it, that of the listener counts.",
		at:    func(s *scope) any { return &s.route.Connect },
	},
	{
		path: "listeners[].routes[].redirect", kind: section,
		about: "Answers the requests that match with another address.",
		open:  func(s *scope) { s.route.Redirect = &Redirect{} },
	},
	{
		path: "listeners[].routes[].redirect.status", kind: word, def: "302", values: []string{"301", "302", "303", "307", "308"},
		about: "`301` and `308` are permanent, so that browsers remember them; `307` and `308` keep the method.",
		at:    inRedirect(func(r *Redirect) any { return &r.Status }),
	},
	{
		path: "listeners[].routes[].redirect.location", kind: text, need: true,
		about: "The other address, with variables as in `request.set`: `https://$host$request_uri`. It begins with `http://`, `https://` or one slash.",
		at:    inRedirect(func(r *Redirect) any { return &r.Location }),
	},
	{
		path: "listeners[].routes[].return", kind: section,
		about: "Answers the requests that match with a fixed text.",
		open:  func(s *scope) { s.route.Return = &Return{} },
	},
	{
		path: "listeners[].routes[].return.status", kind: count, need: true, min: "200", max: "599",
		about: "Status of the answer.",
		at:    inReturn(func(r *Return) any { return &r.Status }),
	},
	{
		path: "listeners[].routes[].return.body", kind: longText,
		about: "Body of the answer, at most 32KiB. Without it an answer from 400 on has the error page of its status, any other no body.",
		at:    inReturn(func(r *Return) any { return &r.Body }),
	},
	{
		path: "listeners[].routes[].return.type", kind: text, def: "text/plain",
		about: "Media type of the body.",
		at:    inReturn(func(r *Return) any { return &r.Type }),
	},
	{
		path: "listeners[].routes[].request.set.FIELD", kind: fieldText,
		about: "As in the listener, for one route. What a route says about a name goes before what its listener says about it.",
		at:    func(s *scope) any { return &s.route.Request.Set },
	},
	{
		path: "listeners[].routes[].request.add.FIELD", kind: fieldText,
		about: "Fields that are added to those that the requests have.",
		at:    func(s *scope) any { return &s.route.Request.Add },
	},
	{
		path: "listeners[].routes[].request.remove[]", kind: fieldName,
		about: "Fields that are left out of the requests, by their names.",
		at:    func(s *scope) any { return &s.route.Request.Remove },
	},
	{
		path: "listeners[].routes[].response.set.FIELD", kind: fieldText,
		about: "The same for the responses of the route.",
		at:    func(s *scope) any { return &s.route.Response.Set },
	},
	{
		path: "listeners[].routes[].response.add.FIELD", kind: fieldText,
		about: "Fields that are added to those that the responses have.",
		at:    func(s *scope) any { return &s.route.Response.Add },
	},
	{
		path: "listeners[].routes[].response.remove[]", kind: fieldName,
		about: "Fields that are left out of the responses, by their names.",
		at:    func(s *scope) any { return &s.route.Response.Remove },
	},
	{
		path: "listeners[].routes[].timeouts.client_body", kind: duration, min: "1ms", max: "24h",
		about: "In place of `timeouts.client_body`, for the requests that match.",
		at:    func(s *scope) any { return &s.route.Timeouts.ClientBody },
	},
	{
		path: "listeners[].routes[].timeouts.client_send", kind: duration, min: "1ms", max: "24h",
		about: "In place of `timeouts.client_send`, for the requests that match.",
		at:    func(s *scope) any { return &s.route.Timeouts.ClientSend },
	},
	{
		path: "listeners[].routes[].timeouts.connect", kind: duration, min: "1ms", max: "24h",
		about: "In place of `timeouts.connect`, for the requests that match.",
		at:    func(s *scope) any { return &s.route.Timeouts.Connect },
	},
	{
		path: "listeners[].routes[].timeouts.backend_read", kind: duration, min: "1ms", max: "24h",
		about: "In place of `timeouts.backend_read`, for the requests that match.",
		at:    func(s *scope) any { return &s.route.Timeouts.BackendRead },
	},
	{
		path: "listeners[].routes[].timeouts.backend_send", kind: duration, min: "1ms", max: "24h",
		about: "In place of `timeouts.backend_send`, for the requests that match.",
		at:    func(s *scope) any { return &s.route.Timeouts.BackendSend },
	},
	{
		path: "upstreams.NAME", kind: section, need: true,
		about: "A pool of backends that answer the same requests. `NAME` is what listeners and routes call it.",
	},
	{
		path: "upstreams.NAME.balance", kind: word, def: "round_robin", values: []string{"round_robin"},
		about: "How a backend is chosen for a request.",
		at:    func(s *scope) any { return &s.upstream.Balance },
	},
	{
		path: "upstreams.NAME.servers[]", kind: address, need: true,
		flag: "backend", usage: "send requests to the backend at `ADDRESS`, IP:PORT (may repeat)",
		about: "IP address and port of each backend. Names are not resolved.",
		at:    func(s *scope) any { return &s.upstream.Servers },
	},
	{
		path: "upstreams.NAME.keepalive", kind: count, unit: "connections", def: "256", min: "0", max: "65535",
		about: "Idle connections kept for each backend and worker; `0` opens one for each request.",
		at:    func(s *scope) any { return &s.upstream.KeepAlive },
	},
	{
		path: "upstreams.NAME.keepalive_timeout", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "How long a connection to a backend may be idle. It must be shorter than the backend's own limit (75 s in nginx), or requests meet connections that are just being closed.",
		at:    func(s *scope) any { return &s.upstream.KeepAliveTimeout },
	},
	{
		path: "upstreams.NAME.keepalive_requests", kind: count, unit: "requests", def: "1000", min: "0",
		about: "A connection to a backend is closed after so many requests; `0` is no limit. The default is that of nginx: it bounds what a connection can accumulate at a backend, and spreads connections again.",
		at:    func(s *scope) any { return &s.upstream.KeepAliveRequests },
	},
	{
		path: "upstreams.NAME.proxy_protocol", kind: word, def: "off", values: []string{"off", "v1", "v2"},
		about: "PROXY protocol header that each connection to a backend begins with; it names the client. Such a connection belongs to its client and serves one request, so that no request is taken for another client's.",
		at:    func(s *scope) any { return &s.upstream.ProxyProtocol },
	},
	{
		path: "timeouts.client_header", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "From the first byte of a request, or from accepting its connection, to the end of its header section. This bounds what a client that sends byte by byte can hold.",
		at:    func(s *scope) any { return &s.config.Timeouts.ClientHeader },
	},
	{
		path: "timeouts.client_body", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "Between two parts of a request body.",
		at:    func(s *scope) any { return &s.config.Timeouts.ClientBody },
	},
	{
		path: "timeouts.client_send", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "Between two parts of a response that the client accepts.",
		at:    func(s *scope) any { return &s.config.Timeouts.ClientSend },
	},
	{
		path: "timeouts.keepalive", kind: duration, def: "75s", min: "1ms", max: "24h",
		about: "How long a client connection may be idle between two requests. Browsers close theirs after about a minute, so that usually they do.",
		at:    func(s *scope) any { return &s.config.Timeouts.KeepAlive },
	},
	{
		path: "timeouts.linger", kind: duration, def: "5s", min: "1ms", max: "24h",
		about: "When a connection ends with its answer: how long the client may send nothing more and not end its side, before all is closed; six times that in all. What it sends until then is thrown away, so that no reset costs it the answer (nginx: `lingering_timeout`, `lingering_time`).",
		at:    func(s *scope) any { return &s.config.Timeouts.Linger },
	},
	{
		path: "timeouts.connect", kind: duration, def: "5s", min: "1ms", max: "24h",
		about: "Until a connection to a backend is established. The default lets a lost SYN be sent again twice (after 1 s and 3 s).",
		at:    func(s *scope) any { return &s.config.Timeouts.Connect },
	},
	{
		path: "timeouts.backend_read", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "Between two parts of a response, its first byte included; answered 504 when nothing was sent yet.",
		at:    func(s *scope) any { return &s.config.Timeouts.BackendRead },
	},
	{
		path: "timeouts.backend_send", kind: duration, def: "60s", min: "1ms", max: "24h",
		about: "Between two parts of a request that the backend accepts.",
		at:    func(s *scope) any { return &s.config.Timeouts.BackendSend },
	},
	{
		path: "timeouts.tunnel", kind: duration, def: "1h", min: "1ms", max: "720h",
		about: "How long nothing may move through a tunnel (upgrade, CONNECT), in either direction. It stands for all other timeouts there. Both connections are then cut off.",
		at:    func(s *scope) any { return &s.config.Timeouts.Tunnel },
	},
	{
		path: "timeouts.drain", kind: duration, def: "30s", min: "1ms", max: "24h",
		about: "How long a graceful stop waits for exchanges to end, and a reload for those of listeners and backends that it removed. What is left then is cut off.",
		at:    func(s *scope) any { return &s.config.Timeouts.Drain },
	},
	{
		path: "timeouts.worker_shutdown", kind: duration, def: "5s", min: "1ms", max: "24h",
		about: "How long a worker may take to end when it is told to stop at once, or when its graceful stop is over. Then it is killed.",
		at:    func(s *scope) any { return &s.config.Timeouts.WorkerShutdown },
	},
	{
		path: "limits.max_connections", kind: count, unit: "connections", def: "65536", min: "2", max: "1048576",
		about: "Client and backend connections of a worker together. At the limit accepting pauses; what waits in the accept queue is served when connections end. An idle connection takes about 5 KB.",
		at:    func(s *scope) any { return &s.config.Limits.MaxConnections },
	},
	{
		path: "limits.request_line", kind: size, unit: "bytes", def: "8KiB", min: "256", max: "1MiB",
		about: "Longest request line (and status line of a backend). Over it: 414. RFC 9112 3 asks for 8000 at least.",
		at:    func(s *scope) any { return &s.config.Limits.RequestLineBytes },
	},
	{
		path: "limits.fields", kind: size, unit: "bytes", def: "32KiB", min: "256", max: "1MiB",
		about: "Longest header section, of requests and responses. Over it: 431, or 502 for a response.",
		at:    func(s *scope) any { return &s.config.Limits.FieldsBytes },
	},
	{
		path: "limits.field_count", kind: count, unit: "field lines", def: "100", min: "8", max: "10000",
		about: "Most field lines of a section. Over it: 431, or 502 for a response.",
		at:    func(s *scope) any { return &s.config.Limits.FieldCount },
	},
	{
		path: "limits.body", kind: size, unit: "bytes", def: "0", min: "0",
		about: "Longest request body. Over it: 413. `0` is no limit: bodies are streamed, so that a long one takes no more memory than a short one.",
		at:    func(s *scope) any { return &s.config.Limits.BodyBytes },
	},
	{
		path: "limits.keepalive_requests", kind: count, unit: "requests", def: "1000", min: "0",
		about: "A client connection is closed after so many requests, the last answered with `Connection: close`; `0` is no limit. The default is that of nginx: it lets clients move to other workers and bounds what a connection can accumulate.",
		at:    func(s *scope) any { return &s.config.Limits.KeepAliveRequests },
	},
	{
		path: "limits.chunk_extensions", kind: size, unit: "bytes", def: "256", min: "0", max: "64KiB",
		about: "Longest extensions of one chunk of a body (RFC 9112 7.1.1). Over it: 400, or a broken response. They are never passed on.",
		at:    func(s *scope) any { return &s.config.Limits.ChunkExtensionBytes },
	},
	{
		path: "limits.chunk_overhead", kind: size, unit: "bytes", def: "16KiB", min: "0", max: "1GiB",
		about: "Longest extensions of all chunks of a body together, so that a body cannot consist of them. Over it: as `limits.chunk_extensions`.",
		at:    func(s *scope) any { return &s.config.Limits.ChunkOverheadBytes },
	},
	{
		path: "limits.trailers", kind: size, unit: "bytes", def: "8KiB", min: "64", max: "1MiB",
		about: "Longest trailer section (RFC 9112 7.1.2), of requests and responses. Over it: 431, or a broken response.",
		at:    func(s *scope) any { return &s.config.Limits.TrailerBytes },
	},
	{
		path: "limits.trailer_count", kind: count, unit: "field lines", def: "32", min: "1", max: "10000",
		about: "Most field lines of a trailer section. Over it: as `limits.trailers`.",
		at:    func(s *scope) any { return &s.config.Limits.TrailerCount },
	},
	{
		path: "limits.client.connections", kind: count, unit: "connections", def: "off", min: "1", max: "1048576", values: []string{"off"},
		about: "Most connections that one client may have at a time, of all listeners and workers together. Requests on more than that are answered 503 with `Connection: close`; a connection beyond twice the limit, or beyond the limit while 50 a second are answered so, is refused with RST, so that a client holds no more than that, whatever it does. With `proxy_protocol` the client is the one that the header names. A browser opens six to each host name, and there may be many behind one address.",
		at:    func(s *scope) any { return &s.config.Limits.Client.Connections },
	},
	{
		path: "limits.client.requests", kind: count, unit: "requests", def: "off", min: "1", max: "1000000", values: []string{"off"},
		about: "Requests a second that one client may send, of all listeners and workers together. Over it they are answered with `limits.client.status` and `Retry-After`, and the connection stays. Malformed requests do not count: they close their connection.",
		at:    func(s *scope) any { return &s.config.Limits.Client.Requests },
	},
	{
		path: "limits.client.burst", kind: count, unit: "requests", def: "auto", min: "1", max: "1000000", values: []string{"auto"},
		about: "How many requests a client may send at once after a pause; they are never delayed. `auto` is as many as `limits.client.requests`: a page makes a browser send dozens at once.",
		at:    func(s *scope) any { return &s.config.Limits.Client.Burst },
	},
	{
		path: "limits.client.status", kind: count, unit: "", def: "429", min: "400", max: "599",
		about: "Status of the answer to a request over `limits.client.requests`. The default is that of RFC 6585; nginx has 503.",
		at:    func(s *scope) any { return &s.config.Limits.Client.Status },
	},
	{
		path: "limits.client.prefix_ipv4", kind: count, unit: "bits", def: "32", min: "1", max: "32",
		about: "How much of an IPv4 address makes a client. `24` takes 256 neighbours for one.",
		at:    func(s *scope) any { return &s.config.Limits.Client.PrefixIPv4 },
	},
	{
		path: "limits.client.prefix_ipv6", kind: count, unit: "bits", def: "64", min: "1", max: "128",
		about: "How much of an IPv6 address makes a client. The default is one network: its hosts choose the rest of their addresses as they like.",
		at:    func(s *scope) any { return &s.config.Limits.Client.PrefixIPv6 },
	},
	{
		path: "limits.client.entries", kind: count, unit: "clients", def: "65536", min: "64", max: "4194304", fixed: true,
		about: "How many clients the table has room for: twice as many as have connections at a time are enough. An entry takes 16 bytes and 8 for each worker, once a limit is on. In a full table a new client takes the place of one that has no connection, of those the one that was quiet for longest (`limited_evictions` counts them where it had not been quiet for long enough to start anew); where there is none, its limits are off (`limited_untracked`).",
		at:    func(s *scope) any { return &s.config.Limits.Client.Entries },
	},
	{
		path: "limits.client.dry_run", kind: boolean, def: "off",
		about: "What is over a limit is counted and logged as otherwise, and passes: to find limits that nobody meets by chance.",
		at:    func(s *scope) any { return &s.config.Limits.Client.DryRun },
	},
	{
		path: "filter.deny[]", kind: prefix, empty: true,
		about: "Sources whose packets for the listeners are dropped by the XDP program, before they cost anything more: addresses, or prefixes such as `192.0.2.0/24` and `\"2001:db8::/32\"`. The longest prefix that a source is in decides, so that `0.0.0.0/0` and `\"::/0\"` here deny everybody that `filter.allow` does not name. Other traffic of the host, and what backends send, is not filtered.",
		at:    func(s *scope) any { return &s.config.Filter.Deny },
	},
	{
		path: "filter.allow[]", kind: prefix, empty: true,
		about: "Sources that are let in all the same, and that no limit of the filter counts for. A prefix that is on both lists is allowed.",
		at:    func(s *scope) any { return &s.config.Filter.Allow },
	},
	{
		path: "filter.deny_file", kind: file, def: "off", values: []string{"off"},
		about: "File with more of `filter.deny`, one a line; `#` begins a comment. It is read at the start and at each reload. A million prefixes take some 130 MB of the kernel's memory, twice that while a reload replaces them, which happens at once for all packets.",
		at:    func(s *scope) any { return &s.config.Filter.DenyFile },
	},
	{
		path: "filter.allow_file", kind: file, def: "off", values: []string{"off"},
		about: "File with more of `filter.allow`.",
		at:    func(s *scope) any { return &s.config.Filter.AllowFile },
	},
	{
		path: "filter.connection_rate", kind: count, unit: "connections a second", def: "off", min: "1", max: "100000000", values: []string{"off"},
		about: "How many connections a source prefix may open, on each interface: SYNs beyond it are dropped by the XDP program. A client sends a dropped SYN again after a second.",
		at:    func(s *scope) any { return &s.config.Filter.ConnectionRate },
	},
	{
		path: "filter.connection_burst", kind: count, unit: "connections", def: "auto", min: "1", max: "100000000", values: []string{"auto"},
		about: "How many of them may come at once; `auto` is as many as in a second.",
		at:    func(s *scope) any { return &s.config.Filter.ConnectionBurst },
	},
	{
		path: "filter.packet_rate", kind: count, unit: "packets a second", def: "off", min: "1", max: "100000000", values: []string{"off"},
		about: "How many packets a source prefix may send to the listeners, of whatever kind: segments, fragments, ICMP errors about connections. An upload of 1 Gbit/s takes some 85000.",
		at:    func(s *scope) any { return &s.config.Filter.PacketRate },
	},
	{
		path: "filter.packet_burst", kind: count, unit: "packets", def: "auto", min: "1", max: "100000000", values: []string{"auto"},
		about: "How many of them may come at once; `auto` is as many as in a second.",
		at:    func(s *scope) any { return &s.config.Filter.PacketBurst },
	},
	{
		path: "filter.ipv4_prefix", kind: count, unit: "bits", def: "32", min: "0", max: "32",
		about: "Length of the prefix of an IPv4 source that the limits count for; `32` is each address by itself. The 65536 prefixes seen last are remembered.",
		at:    func(s *scope) any { return &s.config.Filter.IPv4Prefix },
	},
	{
		path: "filter.ipv6_prefix", kind: count, unit: "bits", def: "64", min: "0", max: "128",
		about: "The same for IPv6, where a host usually has as many addresses as it likes of 64 bits.",
		at:    func(s *scope) any { return &s.config.Filter.IPv6Prefix },
	},
	{
		path: "filter.syn_cookies", kind: word, def: "auto", values: []string{"auto", "xdp", "loop"},
		about: "Who answers SYNs with SYN cookies while a SYN queue is full. `xdp`: the XDP program, for a fraction of what it costs the event `loop` of the worker, which sends the first and all that are not plain. `auto` is `xdp` except on veth in native mode, where an answer of the program is lost unless the other end has GRO on (`ethtool -K PEER gro on`, from Linux 5.13) or an XDP program.",
		at:    func(s *scope) any { return &s.config.Filter.SYNCookies },
	},
	{
		path: "error_pages.STATUS", kind: file,
		about: "File with the body of the proxy's own answers with a status from 400 to 599, at most 32KiB; read at the start and at each reload. Its extension says what it is: .html, .txt, .json, .xml or .svg. Errors that backends answer pass unchanged.",
		at:    func(s *scope) any { return &s.config.ErrorPages },
	},
	{
		path: "log.level", kind: level, def: "info", values: []string{"debug", "info", "warn", "error"},
		flag: "log-level", usage: "least `LEVEL` of messages: debug, info, warn or error (default info)",
		about: "Least level of the messages on standard error.",
		at:    func(s *scope) any { return &s.config.Log.Level },
	},
	{
		path: "log.access", kind: file, def: "off", values: []string{"off"},
		about: "File that a line for each request is appended to; `/dev/stdout` for standard output. Off, so that a first try writes no files.",
		at:    func(s *scope) any { return &s.config.Log.Access },
	},
	{
		path: "log.format", kind: word, def: "combined", values: []string{"combined", "json"},
		about: "Format of these lines: `combined` is that of nginx and Apache, `json` an object with the client, the request, its sizes, the backend, and the times in ms: `request_ms` from the first byte of the request to the end of its head, `queue_ms` until the last attempt to reach a backend, `connect_ms` until it was connected, `first_byte_ms` until it answered, `total_ms` for all. `null` is what a request did not come to. `termination` is `complete`, or says who ended it early: `client`, `backend`, `internal`.",
		at:    func(s *scope) any { return &s.config.Log.Format },
	},
	{
		path: "via", kind: boolean, def: "off",
		about: "Add a `Via` field (RFC 9110 7.6.3) to forwarded requests and responses. Off, because it tells clients what stands in front of the backends, and some backends answer without compression when they see it.",
		at:    func(s *scope) any { return &s.config.Via },
	},
	{
		path: "x_forwarded", kind: word, def: "append", values: []string{"append", "replace", "off"},
		about: "`X-Forwarded-For`, `-Proto` and `-Host` of forwarded requests. `append` adds the client's address to the list in `X-Forwarded-For` and sets the other two. `replace` sets all three and discards what the client sent: right where clients connect directly. `off` leaves them alone.",
		at:    func(s *scope) any { return &s.config.XForwarded },
	},
	{
		path: "forwarded", kind: word, def: "off", values: []string{"off", "append", "replace"},
		about: "`Forwarded` (RFC 7239) of forwarded requests: `append` adds the client's address, the host and the scheme behind what the client sent, `replace` discards that, `off` leaves it alone.",
		at:    func(s *scope) any { return &s.config.Forwarded },
	},
	{
		path: "xdp_mode", kind: word, def: "auto", values: []string{"auto", "native", "generic"}, fixed: true,
		about: "How the steering program is attached. `auto` tries `native` (in the driver) and falls back to `generic` (in the kernel's receive path: any interface, slower), with a warning. The other two fail rather than use the other mode.",
		at:    func(s *scope) any { return &s.config.XDPMode },
	},
	{
		path: "zero_copy", kind: word, def: "auto", values: []string{"auto", "on", "off"}, fixed: true,
		about: "Whether the driver receives straight into the frames of the socket. `auto` asks for it only on drivers and kernels where it is known to be sound (mlx5_core, from Linux 6.1 on), because several announce it and lose or corrupt frames; `on` asks for it everywhere, and fails where it is not to be had. The log and `ringroad status` say what was really got, and why.",
		at:    func(s *scope) any { return &s.config.ZeroCopy },
	},
	{
		path: "rx_checksum", kind: word, def: "auto", values: []string{"auto", "verify", "trust"}, fixed: true,
		about: "Checksums of received segments. `verify` drops and counts bad ones. `auto` does too, but on veth takes those that a peer on the same host has left unfilled. `trust` never looks.",
		at:    func(s *scope) any { return &s.config.RXChecksum },
	},
	{
		path: "tx_checksum", kind: word, def: "auto", values: []string{"auto", "software", "offload"}, fixed: true,
		about: "Who completes the checksums of segments that are sent. `software`: the worker. `offload`: the interface, which is told where by metadata before each frame (Linux 6.11); it fails where that is not to be had. `auto` leaves them to the interface where that is known to be sound: in zero-copy mode to drivers that announce it, and on veth, which hands segments on unfilled as it does with the kernel's own, unless `ethtool -K IFACE tx off` says otherwise. The log and `ringroad status` say what was really got, and why.",
		at:    func(s *scope) any { return &s.config.TXChecksum },
	},
	{
		path: "wait", kind: word, def: "sleep", values: []string{"sleep", "spin"}, fixed: true,
		about: "What a worker does when it has nothing to do. `sleep` uses no CPU when idle; while frames keep coming within some 50 us it looks at the rings for as long before it sleeps, since to sleep and be woken takes as much. `spin` polls the rings first, for `spin_budget`: about half the latency at one connection, for up to all of one core.",
		at:    func(s *scope) any { return &s.config.Wait },
	},
	{
		path: "spin_budget", kind: duration, def: "10ms", min: "1us", max: "1h", fixed: true,
		about: "How long `wait: spin` polls in vain before the worker sleeps after all. The default keeps a busy worker awake between requests and an idle one off the CPU.",
		at:    func(s *scope) any { return &s.config.SpinBudget },
	},
	{
		path: "prepare", kind: boolean, def: "off", fixed: true,
		about: "Prepares the interfaces before the start, as one would by hand: receive offloads that no XDP program can take (LRO, `rx-gro-hw`) are turned off, the NIC's rings get as many slots as `rings.entries`, or all that it has, and where `workers` is a number, there are as many channels. The RSS table spreads flows evenly over the queues that are served. Most NICs lose their link for a moment by it. Each change is logged as the command that it equals, and undone at the end, after a crash at the next start. What a driver refuses stays as it is.",
		at:    func(s *scope) any { return &s.config.Prepare },
	},
	{
		path: "busy_poll", kind: count, unit: "frames", def: "off", min: "1", max: "1024", values: []string{"off"}, fixed: true,
		about: "Has workers poll the driver themselves, in place of its interrupts, for up to so many frames a call; 64 is a good start. It is for `wait: spin` on drivers with native XDP, and slows down others that share the interface. While ringroad runs, `napi_defer_hard_irqs` of the interfaces is 2 and `gro_flush_timeout` 200000 ns; what they were is restored at the end, after a crash at the next start.",
		at:    func(s *scope) any { return &s.config.BusyPoll },
	},
	{
		path: "backend_ports", kind: ports, def: "10000-29999", min: "1024", max: "65535", fixed: true,
		about: "Local ports of connections to backends, which are steered away from the kernel. The range must not overlap `net.ipv4.ip_local_port_range` (32768-60999 by default), or the kernel's own connections to the same backends lose their answers. The default lies below it, above most registered services, and clear of 30000-32767, where Kubernetes puts node ports.",
		at:    func(s *scope) any { return &s.config.BackendPorts },
	},
	{
		path: "rss.key", kind: hashKey, def: "auto", values: []string{"auto", "off"}, fixed: true,
		about: "Key of the hash (Toeplitz) by which the interface chooses the receive queue of a frame. Local ports of connections to backends are chosen so that replies arrive at the worker that asked. `auto` asks the driver for the key; a driver that does not tell it may be helped with the bytes in hexadecimal, `6d:5a:56:...`, 40 at least (`/proc/sys/net/core/netdev_rss_key` is what most drivers take theirs from). With `off` ports are taken in turn. A reply that arrives at another worker all the same is handed over, which takes more CPU and nothing else.",
		at:    func(s *scope) any { return &s.config.RSS.Key },
	},
	{
		path: "rings.entries", kind: count, unit: "descriptors", def: "4096", min: "64", max: "32768", fixed: true,
		about: "Slots of each of the four rings of a socket; a power of two. The frames behind them (`rings.frames`) take their memory from the start; what a burst has beyond them goes to `rings.backlog`.",
		at:    func(s *scope) any { return &s.config.Rings.Entries },
	},
	{
		path: "rings.frame_bytes", kind: size, unit: "bytes", def: "auto", min: "2KiB", max: "4KiB", values: []string{"auto"}, fixed: true,
		about: "Size of a frame: 2KiB or 4KiB. `auto` takes the smaller one where a whole packet of the interface's MTU fits, unless the driver wants the other (ena, for zero-copy). With an MTU above 3506 a packet takes several.",
		at:    func(s *scope) any { return &s.config.Rings.FrameBytes },
	},
	{
		path: "rings.frames", kind: count, unit: "frames", def: "auto", min: "64", max: "65536", values: []string{"auto"}, fixed: true,
		about: "Frames of a socket, for receiving and sending together: at most twice `rings.entries`. `auto` is seven eighths of `rings.entries`, and 64 at least; four fifths receive.",
		at:    func(s *scope) any { return &s.config.Rings.Frames },
	},
	{
		path: "rings.backlog", kind: size, unit: "bytes", def: "4MiB", min: "64KiB", max: "1GiB", values: []string{"off"}, fixed: true,
		about: "Memory of a socket for packets beyond its frames, taken as it is needed. Once one in sixteen of the frames that receive waits on the RX ring, packets of up to 512 bytes are copied here, and once half of them wait all others too, each in as many bytes as it has, and the frames receive again; what comes when this is full too waits on the ring, and what does not fit there is lost. 4 MiB hold 8,000 requests of 500 bytes.",
		at:    func(s *scope) any { return &s.config.Rings.BacklogBytes },
	},
	{
		path: "tcp.congestion_control", kind: word, def: "cubic", values: []string{"cubic", "reno"}, fixed: true,
		about: "Congestion control, RFC 9438 or RFC 5681. `cubic` is what the kernel uses by default.",
		at:    func(s *scope) any { return &s.config.TCP.CongestionControl },
	},
	{
		path: "tcp.sack", kind: boolean, def: "on", fixed: true,
		about: "Selective acknowledgement, RFC 2018.",
		at:    func(s *scope) any { return &s.config.TCP.SACK },
	},
	{
		path: "tcp.rack", kind: boolean, def: "on", fixed: true,
		about: "Time-based loss detection, RFC 8985. Without it a lossy path took two to six times as long to recover.",
		at:    func(s *scope) any { return &s.config.TCP.RACK },
	},
	{
		path: "tcp.ack_delay", kind: duration, def: "5ms", min: "0s", max: "400ms", fixed: true,
		about: "How long an acknowledgement without data may wait for data to travel with; `0s` sends each at once. RFC 9293 3.8.6.3 allows less than half a second; more than 99% leave with the response well within the default. Where responses take longer of late, as under load, it is twice what they take, up to 40ms, the kernel's least delay.",
		at:    func(s *scope) any { return &s.config.TCP.ACKDelay },
	},
	{
		path: "tcp.min_rto", kind: duration, def: "200ms", min: "1ms", max: "10s", fixed: true,
		about: "Least retransmission timeout (RFC 6298). RFC 6298 2.4 asks for 1 s; the default is the kernel's.",
		at:    func(s *scope) any { return &s.config.TCP.MinRTO },
	},
	{
		path: "tcp.syn_retries", kind: count, unit: "segments", def: "6", min: "1", max: "127", fixed: true,
		about: "How often a SYN to a backend is sent again, within `timeouts.connect`. The default is the kernel's.",
		at:    func(s *scope) any { return &s.config.TCP.SYNRetries },
	},
	{
		path: "tcp.retries", kind: count, unit: "segments", def: "15", min: "1", max: "255", fixed: true,
		about: "How often unanswered data is sent again before the connection fails. The default is the kernel's and leaves the decision to `timeouts`.",
		at:    func(s *scope) any { return &s.config.TCP.Retries },
	},
	{
		path: "tcp.fin_wait", kind: duration, def: "60s", min: "1s", max: "10m", fixed: true,
		about: "How long a connection that the proxy closed waits for the other side to close too. The default is the kernel's.",
		at:    func(s *scope) any { return &s.config.TCP.FinWait },
	},
	{
		path: "tcp.time_wait", kind: duration, def: "60s", min: "1s", max: "4m", fixed: true,
		about: "How long a closed connection is remembered, so that late segments cannot reach a new one (RFC 9293 3.6.1). It takes some 64 bytes for so long (100,000 connections took 8 MB), for 131072 connections of an interface at most.",
		at:    func(s *scope) any { return &s.config.TCP.TimeWait },
	},
	{
		path: "tcp.auto_tuning", kind: boolean, def: "on", fixed: true,
		about: "Receive buffers grow with the throughput of their connection, up to `tcp.receive_buffer.max`.",
		at:    func(s *scope) any { return &s.config.TCP.AutoTuning },
	},
	{
		path: "tcp.receive_buffer.min", kind: size, unit: "bytes", def: "4KiB", min: "2KiB", max: "64MiB", fixed: true,
		about: "Least receive buffer of a connection.",
		at:    func(s *scope) any { return &s.config.TCP.ReceiveBuffer.MinBytes },
	},
	{
		path: "tcp.receive_buffer.default", kind: size, unit: "bytes", def: "256KiB", min: "4KiB", max: "64MiB", fixed: true,
		about: "Receive buffer of a new connection, whose first window is half of it.",
		at:    func(s *scope) any { return &s.config.TCP.ReceiveBuffer.DefaultBytes },
	},
	{
		path: "tcp.receive_buffer.max", kind: size, unit: "bytes", def: "4MiB", min: "4KiB", max: "64MiB", fixed: true,
		about: "Size up to which `tcp.auto_tuning` lets a receive buffer grow. 4MiB fills 300 Mbit/s over 100 ms.",
		at:    func(s *scope) any { return &s.config.TCP.ReceiveBuffer.MaxBytes },
	},
	{
		path: "tcp.send_buffer.min", kind: size, unit: "bytes", def: "4KiB", min: "2KiB", max: "64MiB", fixed: true,
		about: "Least send buffer of a connection.",
		at:    func(s *scope) any { return &s.config.TCP.SendBuffer.MinBytes },
	},
	{
		path: "tcp.send_buffer.default", kind: size, unit: "bytes", def: "256KiB", min: "4KiB", max: "64MiB", fixed: true,
		about: "Send buffer of a new connection: what a slow reader can make the proxy hold before its sender is slowed down.",
		at:    func(s *scope) any { return &s.config.TCP.SendBuffer.DefaultBytes },
	},
	{
		path: "tcp.send_buffer.max", kind: size, unit: "bytes", def: "4MiB", min: "4KiB", max: "64MiB", fixed: true,
		about: "Size up to which the send buffer of a connection grows with its throughput.",
		at:    func(s *scope) any { return &s.config.TCP.SendBuffer.MaxBytes },
	},
}

// inRedirect and inReturn reach into sections that a route may lack.
func inRedirect(at func(*Redirect) any) func(*scope) any {
	return func(s *scope) any {
		if s.route == nil || s.route.Redirect == nil {
			return nil
		}
		return at(s.route.Redirect)
	}
}

func inReturn(at func(*Return) any) func(*scope) any {
	return func(s *scope) any {
		if s.route == nil || s.route.Return == nil {
			return nil
		}
		return at(s.route.Return)
	}
}
