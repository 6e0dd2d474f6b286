'use strict';
// An HTTP server: looks up, filters, sorts and renders a list of things for each request.

const crypto = require('crypto');
const http = require('http');

module.exports = () => {
  const things = Array.from({ length: 1000 }, (_, i) => ({
    id: i,
    name: `thing ${Math.imul(i, 2654435761) >>> 0}`,
    price: Math.imul(i, 40503) % 997,
    tags: ['red', 'green', 'blue'].filter((_, bit) => i & (1 << bit)),
  }));

  function select({ searchParams }) {
    const tag = searchParams.get('tag');
    const limit = Number(searchParams.get('limit'));
    return things.filter(({ tags }) => tags.includes(tag))
      .sort((a, b) => a.price - b.price)
      .slice(0, limit);
  }

  function render(list) {
    const rows = list.map(({ id, name, price }) => `<li id="${id}">${name.replace(/\d{3}/g, '$&.')}: ${price.toFixed(2)}</li>`);
    return JSON.stringify({ list, html: `<ul>${rows.join('')}</ul>` });
  }

  function handle(request, response) {
    const body = render(select(new URL(request.url, 'http://localhost')));
    const etag = crypto.createHash('sha1').update(body).digest('base64');
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), etag });
    response.end(body);
  }

  const server = http.createServer(handle);
  return {
    serves: true,
    // Whoever asks sends requests to warm it up.
    warm: () => new Promise((resolve) => {
      server.listen(0, '127.0.0.1', () => resolve({ port: server.address().port }));
    }),
    work() {},
  };
};
