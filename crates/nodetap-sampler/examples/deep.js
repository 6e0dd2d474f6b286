// A busy loop under as many JavaScript frames as the first argument says (in
// all: Node's own included, which are 9 to 12), the workload of `walk_cost`.
'use strict';

const frames = Math.max(1, Number(process.argv[2] || 30) - 10);
let source = `function f0(turns) {
  let sum = 0;
  for (let i = 0; i < turns; i++) sum = (sum * 31 + i) % 1000003;
  return sum;
}
`;
// Functions with a `try` that do something after the call: none is a tail of
// another, and each has a frame until the optimizer inlines some.
for (let i = 1; i < frames; i++) {
  source += `function f${i}(turns) {
  let result = f${i - 1}(turns);
  try { result += ${i}; } catch (error) {}
  return result;
}
`;
}
const outermost = require('vm').runInThisContext(`${source}f${frames - 1}`, {
  filename: 'deep-generated.js',
});
for (;;) outermost(2e6);
