'use strict';
// Takes turns in native code of several kinds: OpenSSL and zlib (partly assembly, without
// frame pointers), JSON, regular expressions, sorting.

const crypto = require('crypto');
const zlib = require('zlib');

module.exports = (modules, amount) => {
  const numbers = Array.from({ length: 20000 }, (_, i) => Math.imul(i, 2654435761) % 1000);
  const record = { list: numbers.slice(0, 2000), text: 'some text '.repeat(500) };
  const text = 'the quick brown fox jumps over the lazy dog '.repeat(2000);
  const bytes = Buffer.from(text);

  function derive() { return crypto.pbkdf2Sync('password', 'salt', 3000, 64, 'sha512'); }
  function hash() { return crypto.createHash('sha256').update(bytes).digest('hex'); }
  function compress() { return zlib.gzipSync(bytes); }
  function serialize() {
    for (let i = 0; i < 10; i++) JSON.stringify(JSON.parse(JSON.stringify(record)));
  }
  function match() { return text.match(/(\w+) (?:brown|lazy) (\w+)/g).length; }
  function sort() { return numbers.slice().sort((a, b) => a - b); }

  const kinds = [derive, hash, compress, serialize, match, sort];
  const times = (count) => {
    for (let i = 0; i < count; i++) for (const kind of kinds) kind();
  };
  return {
    warm: () => times(Math.ceil(30 * amount)),
    work: () => times(Math.ceil(450 * amount)),
  };
};
