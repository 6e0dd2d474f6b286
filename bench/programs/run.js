'use strict';
// A program of the benchmark: node run.js PROGRAM MODULES AMOUNT [PROFILER FILE]. Does
// what it is told on stdin, a word a line, and answers each with a line of JSON:
//
//   warm     works until V8 has compiled most of it
//   profile  starts the profiler inside of this process, if one was asked for
//   go       answers, and does its work (a server: waits for requests)
//   done     answers when that is done: seconds of CPU time (all threads) and wall time
//   stop     stops the profiler, and says what it has got
//   end      the same, and ends the process
//
// MODULES is the node_modules folder that has what programs and profilers need; AMOUNT
// is the share of the usual work that is to be done.

const fs = require('fs');
const readline = require('readline');

const [name, modules, amount, profilerName, file] = process.argv.slice(2);
const program = require(`./${name}`)(modules, Number(amount));
const profiler = profilerName ? require(`./profilers`)[profilerName](modules, file) : undefined;

/** CPU and wall seconds, from `start` on. */
function used(start) {
  const { user, system } = process.cpuUsage(start.cpu);
  return { cpu: (user + system) / 1e6, wall: Number(process.hrtime.bigint() - start.wall) / 1e9 };
}

let start;
let work;

const words = {
  warm: () => program.warm(),
  profile: () => profiler?.start(),
  go() {
    start = { cpu: process.cpuUsage(), wall: process.hrtime.bigint() };
    // After the answer.
    work = new Promise((resolve) => setImmediate(resolve)).then(program.work).then(() => used(start));
  },
  async done() {
    const usage = await work;
    // A server has worked until now.
    return program.serves ? used(start) : usage;
  },
  stop: () => profiler?.stop(),
  end: () => profiler?.stop(),
};

(async () => {
  // Whoever asked has gone when there are no more lines.
  for await (const word of readline.createInterface({ input: process.stdin })) {
    const answer = await words[word]();
    fs.writeSync(1, `${JSON.stringify(answer ?? {})}\n`);
    if (word === 'end') break;
  }
  process.exit(0);
})();
