'use strict';
// Minifies a parser's source with terser, again and again.

const fs = require('fs');
const path = require('path');

module.exports = (modules, amount) => {
  const { minify } = require(path.join(modules, 'terser'));
  const source = fs.readFileSync(path.join(modules, 'acorn/dist/acorn.js'), 'utf8');
  const times = async (count) => {
    for (let i = 0; i < count; i++) await minify(source, { compress: { passes: 2 }, mangle: true });
  };
  return {
    warm: () => times(Math.ceil(3 * amount)),
    work: () => times(Math.ceil(5 * amount)),
  };
};
