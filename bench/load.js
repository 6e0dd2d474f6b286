'use strict';
// Sends requests to an HTTP server on this machine. It is a process of its own, told what
// to do by messages { port, count, rate }. Without a rate each of its connections sends the next
// request when the answer to the last one is there. With a rate, so many a second are
// sent, however long the answers take. Answers { wall, latencies }, in seconds and
// milliseconds; a latency is from the moment of sending to the last byte.

const net = require('net');

const CONNECTIONS = 16;
const TICK_MS = 2;
const REQUEST = 'GET /things?tag=green&limit=20 HTTP/1.1\r\nHost: localhost\r\n\r\n';

/** Milliseconds, from whenever. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

/** A connection, whose `send` calls back with the latency of the answer. */
class Connection {
  constructor(port) {
    this.waiting = [];
    this.received = 0;
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.setNoDelay(true);
    this.socket.on('data', (data) => this.take(data));
    this.failed = new Promise((_, reject) => {
      this.socket.once('error', reject);
      this.socket.once('close', () => reject(new Error('the server has closed a connection')));
      this.reject = reject;
    });
    this.failed.catch(() => {});
  }

  send(callback) {
    this.waiting.push([now(), callback]);
    this.socket.write(REQUEST);
  }

  /** All answers are as long as the first one. */
  take(data) {
    if (this.length === undefined) {
      this.first = this.first ? Buffer.concat([this.first, data]) : data;
      const head = this.first.indexOf('\r\n\r\n');
      if (head < 0) return;
      const match = /^HTTP\/1\.1 200 [^]*\r\ncontent-length: (\d+)/i.exec(this.first.toString('latin1', 0, head));
      if (!match) return this.reject(new Error('the server did not answer as it should'));
      this.length = head + 4 + Number(match[1]);
      data = this.first;
    }
    this.received += data.length;
    while (this.received >= this.length && this.waiting.length > 0) {
      this.received -= this.length;
      const [sent, callback] = this.waiting.shift();
      callback(now() - sent);
    }
  }
}

/** As many at a time as there are connections. */
function saturate(connections, count, latencies) {
  return new Promise((resolve) => {
    let left = count;
    let done = 0;
    const next = (connection) => {
      if (left-- <= 0) return;
      connection.send((latency) => {
        latencies.push(latency);
        if (++done === count) resolve();
        next(connection);
      });
    };
    for (const connection of connections) next(connection);
  });
}

/** So many a second. */
function atRate(connections, count, rate, latencies) {
  return new Promise((resolve) => {
    const start = now();
    let sent = 0;
    let done = 0;
    const tick = () => {
      const due = Math.min(count, Math.floor((now() - start) * rate / 1000) + 1);
      for (; sent < due; sent++) {
        connections[sent % connections.length].send((latency) => {
          latencies.push(latency);
          if (++done === count) resolve();
        });
      }
      if (sent < count) setTimeout(tick, TICK_MS);
    };
    tick();
  });
}

process.on('message', async ({ port, count, rate }) => {
  const connections = Array.from({ length: Math.min(CONNECTIONS, count) }, () => new Connection(port));
  try {
    const latencies = [];
    const start = now();
    const all = rate ? atRate(connections, count, rate, latencies) : saturate(connections, count, latencies);
    await Promise.race([all, ...connections.map(({ failed }) => failed)]);
    process.send({ wall: (now() - start) / 1000, latencies });
  } catch (error) {
    process.send({ error: error.message });
  }
  for (const { socket } of connections) socket.destroy();
});
process.on('disconnect', () => process.exit());
