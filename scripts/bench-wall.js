'use strict';
// What --wall costs the program: node bench-wall.js NODETAP NODES [VERSION…]. Two threads
// of a program wait for each other in turn, and work in between. Rounds without nodetap,
// with a recording, and with a recording --wall take turns. Prints for each Node.js (they
// are in the folder NODES):
//
//   waits/s         how often a second a thread of the program began to wait, alone
//   us/wait         the CPU time that the program used for each of its waits, the work in
//                   between included: medians of the rounds
//   cost            how much more of that a wait takes with --wall than alone

const { Worker, isMainThread, workerData } = require('worker_threads');
const { spawn } = require('child_process');
const fs = require('fs');
const path = require('path');

const ROUNDS = 7;
const ROUND_MS = 2000;
const VERSIONS = ['12.22.12', '18.20.8', '20.20.2', '24.21.0', '26.10.0'];

if (!isMainThread) {
  const cell = new Int32Array(workerData);
  for (;;) {
    Atomics.wait(cell, 0, 0);
    Atomics.store(cell, 0, 0);
    Atomics.notify(cell, 0);
  }
} else if (process.argv[2] === 'program') {
  const shared = new SharedArrayBuffer(4);
  const cell = new Int32Array(shared);
  new Worker(__filename, { workerData: shared }).once('online', () => {
    const work = (steps) => { for (let sum = 0; steps--;) sum += steps * steps % 7; };
    const depth = (left) => {
      if (left) return depth(left - 1);
      Atomics.store(cell, 0, 1);
      Atomics.notify(cell, 0);
      Atomics.wait(cell, 0, 1);
    };
    for (;;) {
      work(20000);
      depth(20);
    }
  });
} else {
  main(process.argv.slice(2));
}

async function main([nodetap, nodes, ...some]) {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
  /** What all threads of the program have had by now: CPU time in µs, and waits. */
  const used = (pid) => {
    const sum = { cpu: 0, waits: 0, time: performance.now() };
    for (const tid of fs.readdirSync(`/proc/${pid}/task`)) {
      const of = (file) => fs.readFileSync(`/proc/${pid}/task/${tid}/${file}`, 'utf8');
      sum.cpu += of('schedstat').split(' ')[0] / 1e3;
      sum.waits += +/^voluntary_ctxt_switches:\s*(\d+)/m.exec(of('status'))[1];
    }
    return sum;
  };
  const { performance } = require('perf_hooks');
  console.log(`${ROUNDS} rounds of ${ROUND_MS / 1000} s, Linux ${require('os').release()}`);
  console.log('Node.js    waits/s  us/wait alone  record  --wall   cost');
  for (const version of some.length ? some : VERSIONS) {
    const node = path.join(nodes, version, 'bin/node');
    const program = spawn(node, [__filename, 'program'], { stdio: 'inherit' });
    const ways = { alone: [], record: [], wall: [] };
    const rates = [];
    await wait(2000);
    for (let round = 0; round < ROUNDS; round++) {
      for (const way of Object.keys(ways)) {
        const options = ['record', '-p', program.pid, '-o', '/dev/null', '-f', 'json'];
        if (way === 'wall') options.push('--wall');
        const recorder = way !== 'alone' && spawn(nodetap, options, { stdio: 'ignore' });
        const ended = recorder && new Promise((resolve) => recorder.once('close', resolve));
        await wait(1000);
        const before = used(program.pid);
        await wait(ROUND_MS);
        const after = used(program.pid);
        const waits = after.waits - before.waits;
        ways[way].push((after.cpu - before.cpu) / waits);
        if (!recorder) rates.push(1000 * waits / (after.time - before.time));
        if (recorder) recorder.kill('SIGINT');
        await ended;
      }
    }
    program.kill();
    const [alone, record, wall] = Object.values(ways).map(median);
    const column = (number, width, digits) => number.toFixed(digits).padStart(width);
    console.log(
      version.padEnd(8) + column(median(rates), 10, 0) + column(alone, 15, 1) + column(record, 8, 1) +
      column(wall, 8, 1) + `${column(wall - alone, 6, 1)} us`);
  }
}
