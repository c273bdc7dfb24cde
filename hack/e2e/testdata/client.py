"""One feature of the table of clients (clients_test.go) with http.client: client.py FEATURE ADDRESS FILE SHA256 SIZE SHA256.

FILE and its digest are what upload sends; SIZE and its digest are those of /bytes/SIZE. Prints ok."""
import hashlib, http.client, json, sys

feature, address, file, file_sum, size, size_sum = sys.argv[1:]
c = http.client.HTTPConnection(address, timeout=30)
HELLO = b"hello world\n"
BODY = b"one two three"


def ask(method, target, *args, **kwargs):
    c.request(method, target, *args, **kwargs)
    return answer()


def answer():
    r = c.getresponse()
    return r, r.read()


def check(condition, *seen):
    assert condition, seen


def hello():
    """The connection is in step."""
    r, body = ask("GET", "/")
    check((r.status, r.version, body) == (200, 11, HELLO), r.status, body)


def digest(expect, chunked, r, body):
    check(r.status == 200, r.status, body)
    want = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest(), "chunked": chunked, "expect": expect}
    check(json.loads(body) == want, body)


def get():
    hello()


def head():
    r, body = ask("HEAD", "/bytes/5000")
    check((r.status, r.headers["Content-Length"], body) == (200, "5000", b""), r.status, r.headers, body)
    hello()


def post():
    digest(False, False, *ask("POST", "/digest", BODY))


def post_chunked():
    digest(False, True, *ask("POST", "/digest", iter([BODY[:4], BODY[4:8], BODY[8:]]), encode_chunked=True))


def expect():
    """http.client does not wait for 100 (Continue), so this does."""
    for name, value, body in (("Content-Length", str(len(BODY)), BODY), ("Transfer-Encoding", "chunked", b"d\r\n%s\r\n0\r\n\r\n" % BODY)):
        c.putrequest("POST", "/digest")
        c.putheader("Expect", "100-continue")
        c.putheader(name, value)
        c.endheaders()
        seen = b""
        while b"\r\n\r\n" not in seen:
            b = c.sock.recv(4096)
            check(b, seen)
            seen += b
        check(seen == b"HTTP/1.1 100 Continue\r\n\r\n", seen)
        c.send(body)
        digest(True, name == "Transfer-Encoding", *answer())


def download():
    for query in ("", "?chunked"):
        c.request("GET", "/bytes/" + size + query)
        r = c.getresponse()
        h = hashlib.sha256()
        while b := r.read(1 << 16):
            h.update(b)
        check((r.status, h.hexdigest()) == (200, size_sum), r.status, h.hexdigest())


def upload():
    for chunked in (False, True):
        with open(file, "rb") as f:
            f.seek(0, 2)
            headers = {} if chunked else {"Content-Length": str(f.tell())}
            f.seek(0)
            r, body = ask("PUT", "/digest", f, headers, encode_chunked=chunked)
        d = json.loads(body)
        check((r.status, d["sha256"], d["chunked"]) == (200, file_sum, chunked), r.status, body)


def reuse():
    c.connect()
    own = c.sock.getsockname()
    for _ in range(10):
        hello()
    check(c.sock.getsockname() == own)


def upgrade():
    c.request("GET", "/upgrade", headers={"Connection": "Upgrade", "Upgrade": "echo"})
    s = c.sock
    r = c.getresponse()
    check((r.status, r.headers["Upgrade"]) == (101, "echo"), r.status, r.headers)
    for n in (1, 1000, 300000):
        sent = bytes(i * 7 & 255 for i in range(n))
        s.sendall(sent)
        got = b""
        while len(got) < n:
            b = s.recv(1 << 16)
            check(b, len(got))
            got += b
        check(got == sent)
    s.shutdown(1)
    check(s.recv(1) == b"")


def bodyless():
    for status in (204, 304):
        r, body = ask("GET", "/status/%d" % status)
        check((r.status, body) == (status, b""), r.status, body)
    hello()


globals()[feature]()
print("ok")
