// Spins in the innermost of ten functions of one script, each calling the next,
// and prints the script's id, as V8's debugger tells it, once it is known.
'use strict';

const inspector = require('inspector');
const vm = require('vm');

const name = 'identity-generated.js';
let source = 'function f0() { for (let sum = 0; ; ) sum = (sum * 31 + 7) % 1000003; }\n';
for (let i = 1; i < 10; i++) source += `function f${i}() { return f${i - 1}() + ${i}; }\n`;

const session = new inspector.Session();
session.connect();
let id;
session.on('Debugger.scriptParsed', ({ params }) => {
  if (params.url === name) id = params.scriptId;
});
session.post('Debugger.enable');
const outermost = vm.runInThisContext(`${source}f9`, { filename: name });
session.post('Debugger.disable');
session.disconnect();

console.log(id);
outermost();
