'use strict';
// `perf record -g` at work on a process.

const { lastLine, run, start } = require('./processes');

/** The functions that are a thread's first. */
const FIRST = /^(_start|main|__libc_start_\w+|start_thread|(__)?clone3?)(\+0x|$)/;

/** Starts it; the words are those of `startNodetap`. */
function startPerf({ pid, rate, file }) {
  // It is told when to begin by a pipe, and answers by another: then it samples.
  const args = ['record', '-g', '-F', rate, '-p', pid, '-o', file, '-k', 'CLOCK_MONOTONIC', '-D', '-1', '--control', 'fd:3,4'];
  const started = process.hrtime.bigint();
  const child = start('perf', args.map(String), { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] });
  const ready = new Promise((resolve, reject) => {
    child.stdio[4].on('data', (data) => { if (/ack/.test(data)) resolve(); });
    child.ended.then((end) => reject(new Error(`perf ended with ${end}: ${lastLine(child.notes)}`)));
  });
  ready.catch(() => {});
  child.stdio[3].on('error', () => {});
  child.stdio[3].write('enable\n');
  return { child, ready, stop: () => child.kill('SIGINT'), read: () => counts(file, started) };
}

/** What is in the file: a sample is complete if its last frame is of a thread's first function. */
async function counts(file, started) {
  const text = await run('perf', ['script', '-i', file, '--no-inline', '-F', 'tid,time,ip,sym']);
  const stacks = text.split('\n\n').filter((stack) => stack.trim());
  const complete = stacks.filter((stack) => FIRST.test(stack.trimEnd().split('\n').pop().trim().replace(/^\S+ /, '')));
  const first = /(\d+)\.(\d+):/.exec(stacks[0] ?? '');
  return {
    samples: stacks.length,
    complete: stacks.length > 0 ? complete.length / stacks.length : undefined,
    first: first ? (Number(`${first[1]}.${first[2]}`) - Number(started) / 1e9) * 1000 : undefined,
  };
}

module.exports = { startPerf };
