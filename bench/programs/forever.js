'use strict';
// A program that is busy until it is killed, or whoever started it has gone: node forever.js
// KIND NUMBER. It says "ready" and begins when it gets a line.
//
//   loop       a few functions
//   deep       NUMBER frames of recursion below what is busy
//   functions  NUMBER functions, one after the other
//   mix        the mix of the benchmark

const fs = require('fs');

const [kind, number] = [process.argv[2], Number(process.argv[3])];
let sink = 1;

function spin(steps) {
  let value = sink;
  for (let i = 0; i < steps; i++) value = (Math.imul(value, 1103515245) + 12345) | 0;
  sink = value;
}

const parent = process.ppid;

/** Does `work` again and again. */
function forever(work) {
  fs.writeSync(1, 'ready\n');
  if (fs.readSync(0, Buffer.alloc(8)) === 0) return;
  while (process.ppid === parent) work();
}

const kinds = {
  loop() {
    const one = () => spin(20000);
    const two = () => { one(); spin(10000); };
    forever(() => { for (let i = 0; i < 20; i++) { one(); two(); } });
  },
  deep() {
    function descend(depth) {
      if (depth > 0) return descend(depth - 1) + 1;
      forever(() => spin(200000));
      process.exit();
    }
    descend(number);
  },
  functions() {
    const all = [];
    // In scripts of a thousand.
    for (let from = 0; from < number; from += 1000) {
      let source = '[';
      for (let i = from; i < Math.min(number, from + 1000); i++) {
        source += `function f${i}(s) { let v = s; for (let i = 0; i < 200; i++) v = (v * 31 + ${i}) & 65535; return v; },\n`;
      }
      all.push(...new (require('vm').Script)(`${source}]`, { filename: `functions-${from}.js` }).runInThisContext());
    }
    forever(() => { for (const one of all) sink = one(sink); });
  },
  mix() {
    const { work } = require('./mix')('', 1);
    forever(work);
  },
};

kinds[kind]();
