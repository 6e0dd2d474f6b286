'use strict';
// nodetap at work on a process.

const fs = require('fs');
const { lastLine, start } = require('./processes');

/**
 * Starts `nodetap record`. `ready` is there when it samples; `read` gives what it has
 * got, once it has ended.
 */
function startNodetap(binary, { pids, rate, sampler, file, more = [] }) {
  const args = ['record', ...pids.flatMap((pid) => ['-p', pid]), '-r', rate, '--sampler', sampler, '-o', file, ...more];
  const started = Date.now();
  const child = start(binary, args.map(String), {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NO_COLOR: '1', RUST_LOG: 'nodetap::recording=debug' },
  });
  const ready = new Promise((resolve, reject) => {
    child.stderr.on('data', () => { if (/DEBUG.* sampling after=/.test(child.notes)) resolve(); });
    child.ended.then((end) => reject(new Error(`nodetap ended with ${end}: ${lastLine(child.notes)}`)));
  });
  ready.catch(() => {});
  return { child, ready, stop: () => child.kill('SIGINT'), read: () => counts(child.notes), recording: () => recording(file, started) };
}

/** What the closing line says. */
function counts(notes) {
  const number = (what) => {
    const match = new RegExp(what).exec(notes);
    if (!match) throw new Error(`nodetap said: ${lastLine(notes)}`);
    return Number(match[1]);
  };
  const samples = number(/(\d+) samples in/);
  const broken = number(/(\d+) truncated/) + number(/(\d+) incomplete/);
  return {
    samples,
    lost: number(/(\d+) lost/),
    complete: samples > 0 ? 1 - broken / samples : undefined,
  };
}

/** What a JSON recording tells: of its samples, and how long after its start the first one came. */
function recording(file, started) {
  const { stacks, samples, start: begun, lost } = JSON.parse(fs.readFileSync(file, 'utf8'));
  const start = Date.parse(begun);
  return {
    lost,
    /** Samples and frames until the time `end` (milliseconds since 1970). */
    until(end) {
      const some = samples.filter(([time]) => start + time / 1000 <= end);
      return { samples: some.length, frames: some.reduce((sum, [, , stack]) => sum + stacks[stack].length, 0) };
    },
    first: samples.length > 0 ? start + samples[0][0] / 1000 - started : undefined,
  };
}

module.exports = { startNodetap };
