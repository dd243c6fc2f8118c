// A stateless service: any number of copies, no memory of who asked. It stops when it is told to, after the answers that it owes.
'use strict';

const http = require('node:http');
const os = require('node:os');

const port = Number(process.env.PORT || 3000);
let stopping = false;

const server = http.createServer((request, response) => {
  const answer = (status, body) => {
    const text = JSON.stringify(body) + '\n';
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
    if (stopping) headers.connection = 'close';
    response.writeHead(status, headers).end(text);
  };
  const { pathname, searchParams } = new URL(request.url, 'http://mashroom');
  if (pathname === '/health') return answer(stopping ? 503 : 200, { status: stopping ? 'stopping' : 'ok' });
  if (pathname === '/') return answer(200, { service: 'mashroom', greeting: process.env.GREETING || 'hello', host: os.hostname() });
  if (pathname === '/work') {
    // Keeps a processor busy for a while, at most a second: something for the scaling to see.
    const until = Date.now() + Math.min(Number(searchParams.get('ms')) || 50, 1000);
    let rounds = 0;
    while (Date.now() < until) rounds += 1;
    return answer(200, { rounds });
  }
  return answer(404, { error: 'nothing here' });
});

// Longer than a load balancer keeps an idle connection (60 s), so that it is never this side that closes one in use.
server.keepAliveTimeout = 65_000;
server.listen(port, () => console.log(JSON.stringify({ level: 'info', message: 'listening', port })));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
