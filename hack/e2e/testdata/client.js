// One feature of the table of clients (clients_test.go) with node's http: client.js FEATURE ADDRESS FILE SHA256 SIZE SHA256.
//
// FILE and its digest are what upload sends; SIZE and its digest are those of /bytes/SIZE. Prints ok.
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const { once } = require('events');

const [feature, address, file, fileSum, size, sizeSum] = process.argv.slice(2);
const { hostname, port } = new URL('http://' + address);
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const hello = 'hello world\n';
const body = 'one two three';
const sha256 = (b) => crypto.createHash('sha256').update(b).digest('hex');

// begin makes a request that is sent when it is ended.
function begin(method, path, headers = {}) {
  const r = http.request({ host: hostname.replace(/[[\]]/g, ''), port, agent, method, path, headers, timeout: 30000 });
  r.on('timeout', () => r.destroy(new Error('timeout')));
  return r;
}

// finish returns the status, the fields and the body of the answer.
async function finish(request) {
  const [r] = await once(request, 'response');
  const parts = [];
  for await (const p of r) parts.push(p);
  return { status: r.statusCode, headers: r.headers, body: Buffer.concat(parts).toString(), version: r.httpVersion };
}

function ask(method, path, headers) {
  const r = begin(method, path, headers);
  r.end();
  return finish(r);
}

// inStep checks that the connection still is.
async function inStep() {
  const r = await ask('GET', '/');
  assert.deepStrictEqual([r.status, r.version, r.body], [200, '1.1', hello]);
}

function checkDigest(r, chunked, expect) {
  assert.strictEqual(r.status, 200);
  assert.deepStrictEqual(JSON.parse(r.body), { bytes: body.length, sha256: sha256(body), chunked, expect });
}

const length = { 'Content-Length': body.length };
const chunked = { 'Transfer-Encoding': 'chunked' };

const features = {
  get: inStep,

  async head() {
    const r = await ask('HEAD', '/bytes/5000');
    assert.deepStrictEqual([r.status, r.headers['content-length'], r.body], [200, '5000', '']);
    await inStep();
  },

  async post() {
    const r = begin('POST', '/digest', length);
    r.end(body);
    checkDigest(await finish(r), false, false);
  },

  async post_chunked() {
    const r = begin('POST', '/digest', chunked);
    for (const part of body.match(/.{1,4}/g)) r.write(part);
    r.end();
    checkDigest(await finish(r), true, false);
  },

  async expect() {
    for (const framing of [length, chunked]) {
      const r = begin('POST', '/digest', { Expect: '100-continue', ...framing });
      r.flushHeaders();
      await once(r, 'continue');
      r.end(body);
      checkDigest(await finish(r), framing === chunked, true);
    }
  },

  async download() {
    for (const query of ['', '?chunked']) {
      const r = begin('GET', '/bytes/' + size + query);
      r.end();
      const [answer] = await once(r, 'response');
      const h = crypto.createHash('sha256');
      for await (const p of answer) h.update(p);
      assert.deepStrictEqual([answer.statusCode, h.digest('hex')], [200, sizeSum]);
    }
  },

  async upload() {
    for (const framing of [{ 'Content-Length': fs.statSync(file).size }, chunked]) {
      const r = begin('PUT', '/digest', framing);
      fs.createReadStream(file).pipe(r);
      const answer = await finish(r);
      const d = JSON.parse(answer.body);
      assert.deepStrictEqual([answer.status, d.sha256, d.chunked], [200, fileSum, framing === chunked]);
    }
  },

  async reuse() {
    for (let i = 0; i < 10; i++) {
      const r = begin('GET', '/');
      r.end();
      const answer = await finish(r);
      assert.deepStrictEqual([answer.body, r.reusedSocket], [hello, i > 0]);
    }
  },

  async upgrade() {
    const r = begin('GET', '/upgrade', { Connection: 'Upgrade', Upgrade: 'echo' });
    r.end();
    const [answer, socket, first] = await once(r, 'upgrade');
    assert.deepStrictEqual([answer.statusCode, answer.headers.upgrade, first.length], [101, 'echo', 0]);
    const got = [];
    socket.on('data', (b) => got.push(b));
    const sent = [1, 1000, 300000].map((n) => crypto.randomBytes(n));
    for (const b of sent) socket.write(b);
    socket.end(); // the other half is still open
    await once(socket, 'end');
    assert.ok(Buffer.concat(got).equals(Buffer.concat(sent)));
  },

  async bodyless() {
    for (const status of [204, 304]) {
      const r = await ask('GET', '/status/' + status);
      assert.deepStrictEqual([r.status, r.body], [status, '']);
    }
    await inStep();
  },

  async interim() {
    const r = begin('GET', '/early');
    const early = [];
    r.on('information', (i) => early.push([i.statusCode, i.headers.link]));
    r.end();
    const answer = await finish(r);
    assert.deepStrictEqual(early, [[103, '</style.css>; rel=preload']]);
    assert.deepStrictEqual([answer.status, answer.body], [200, hello]);
  },
};

features[feature]().then(() => {
  agent.destroy();
  console.log('ok');
}, (err) => {
  console.error(err);
  process.exit(1);
});
