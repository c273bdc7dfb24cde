package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	"ringroad/hack/lab/backend"
)

// HasNginx reports whether nginx is installed.
func HasNginx() bool {
	_, err := exec.LookPath("nginx")
	return err == nil
}

// startBackends starts nginx and the Go server in the backend, or the Go server in place of both.
func (l *Lab) startBackends() error {
	listen := hostPort(Backend4, GoPort) + "," + hostPort(Backend6, GoPort)
	if HasNginx() {
		if _, err := l.StartNginx(l.Backend, "backend", 1, backendConfig, nil); err != nil {
			return err
		}
	} else {
		listen += "," + hostPort(Backend4, NginxPort) + "," + hostPort(Backend6, NginxPort)
	}
	c, err := l.Backend.child("backend", "-listen", listen, "-files", l.Files)
	if err != nil {
		return err
	}
	p, err := l.Start("Go server", c)
	if err != nil {
		return err
	}
	if err := p.WaitLine("ready", 10*time.Second); err != nil {
		return err
	}
	return l.Backend.WaitTCP(hostPort(Backend4, NginxPort), 10*time.Second)
}

// StartNginx starts nginx in the foreground with the given number of workers, with a configuration made from the given text (a template
// that gets the lab as .Lab and data as .Data) and a directory of its own below the lab's. The name tells several apart.
func (l *Lab) StartNginx(n *Namespace, name string, workers int, config string, data any) (*Process, error) {
	dir := filepath.Join(l.Dir, "nginx-"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	t, err := template.New("nginx").Parse(nginxMain + config + "}\n")
	if err != nil {
		return nil, fmt.Errorf("parse configuration of nginx %s: %w", name, err)
	}
	f, err := os.Create(filepath.Join(dir, "nginx.conf"))
	if err != nil {
		return nil, err
	}
	if err := t.Execute(f, map[string]any{"Lab": l, "Data": data, "Workers": workers, "Port": NginxPort, "Backend4": Backend4, "Backend6": Backend6}); err != nil {
		return nil, fmt.Errorf("write configuration of nginx %s: %w", name, err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	c := n.Exec("nginx", "-p", dir, "-c", "nginx.conf", "-e", "stderr")
	// Its master takes the workers along only when it may react.
	c.SysProcAttr.Pdeathsig = syscall.SIGTERM
	return l.Start("nginx "+name, c)
}

// nginxMain is what every nginx of the lab has in common. Requests are never buffered on disk outside the lab's directory.
const nginxMain = `daemon off;
user root;
pid nginx.pid;
error_log stderr warn;
worker_processes {{.Workers}};
worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
	access_log off;
	keepalive_timeout 300;
	keepalive_requests 100000000;
	client_max_body_size 0;
	sendfile on;
	tcp_nodelay on;
	client_body_temp_path body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
`

const backendConfig = `	etag off;
	server {
		listen {{.Backend4}}:{{.Port}} backlog=8192;
		listen [{{.Backend6}}]:{{.Port}} backlog=8192;
		default_type text/plain;
		location = / { return 200 "hello world\n"; }
		location = /empty { return 200; }
		location /f/ { alias {{.Lab.Files}}/; }
		location /chunked/ { alias {{.Lab.Files}}/; ssi on; ssi_types *; }
	}
`

// writeFiles makes the files that /f/ serves. What is in them follows from the name alone (backend.Body).
func (l *Lab) writeFiles() error {
	for name, size := range l.options.Files {
		f, err := os.Create(filepath.Join(l.Files, name))
		if err != nil {
			return fmt.Errorf("make file to serve: %w", err)
		}
		if _, err := f.ReadFrom(backend.Body(name, size)); err != nil {
			return fmt.Errorf("fill %s: %w", f.Name(), err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

func hostPort(a netip.Addr, port uint16) string { return netip.AddrPortFrom(a, port).String() }
