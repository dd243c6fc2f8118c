// Shows a secret word, which it is told by its environment only, and whether it came through a load balancer with TLS.
'use strict';

const http = require('node:http');

const port = Number(process.env.PORT || 3000);
const word = process.env.SECRET_WORD;

const server = http.createServer((request, response) => {
  const path = request.url.split('?')[0];
  const answer = (status, text) => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text + '\n');
  };
  if (path === '/') return answer(200, 'quest');
  if (path === '/secret_word') return word ? answer(200, word) : answer(404, 'no SECRET_WORD is set');
  if (path === '/loadbalanced') return answer(200, request.headers['x-forwarded-for'] ? 'through a load balancer' : 'not through a load balancer');
  if (path === '/tls') return answer(200, request.headers['x-forwarded-proto'] === 'https' ? 'by TLS' : 'not by TLS');
  return answer(404, 'nothing here');
});

server.keepAliveTimeout = 65_000;
server.listen(port, () => console.log(JSON.stringify({ level: 'info', message: 'listening', port })));

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close(() => process.exit(0));
    server.closeIdleConnections();
  });
}
