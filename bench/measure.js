'use strict';
// One run of one program under one variant.

const fs = require('fs');
const path = require('path');
const { runTime } = require('./bpf');
const { cpu, folder, lastUsage, wait } = require('./processes');
const { startTarget } = require('./target');

/** What requests a server gets: to warm it up, at a fixed rate, and as fast as it answers. */
const WARM = { count: 3000 };
const STEADY = { count: 3000, rate: 1500 };
const FAST = { count: 10000 };

/** After starting, a profiler may still be reading what it will need. */
const SETTLE_MS = 500;

let runs = 0;

/** The program, ready to work: V8 has compiled most of it. */
async function prepare({ node, program, modules, amount, load }, variant) {
  const file = path.join(folder, `run-${++runs}`);
  const target = startTarget({ node, program, modules, amount, file, flags: variant.flags, profiler: variant.profiler });
  const { port } = await target.ask('warm');
  const send = port && (({ count, rate }) => load({ port, count: Math.ceil(count * amount), rate }));
  if (send) await send(WARM);
  return { ...target, send, file };
}

/** Has it work; gives the CPU and wall seconds that it took, and the latencies of a server. */
async function work({ ask, send }) {
  await ask('go');
  if (!send) return ask('done');
  const { latencies } = await send(STEADY);
  const { wall } = await send(FAST);
  const usage = await ask('done');
  return { cpu: usage.cpu, busy: usage.wall, wall, latencies };
}

/**
 * Does a run. What takes time before and after the work (starting, warming up,
 * attaching, writing) is not counted as the work's.
 */
async function measure(context, variant) {
  const target = await prepare(context, variant);
  const recorder = variant.attach?.({ binary: context.binary, pid: target.pid, file: target.file });
  await recorder?.ready;
  await wait(SETTLE_MS * Math.min(1, context.amount));
  await target.ask('profile');

  const before = recorder && { cpu: cpu(recorder.child.pid), at: Date.now() };
  const worked = await work(target);
  const own = recorder && { cpu: cpu(recorder.child.pid) - before.cpu, wall: (Date.now() - before.at) / 1000 };

  const result = { cpu: worked.cpu, wall: worked.wall, latencies: worked.latencies };
  if (recorder) {
    const stopped = Date.now();
    const whole = await lastUsage(recorder.child, recorder.stop);
    result.writing = (Date.now() - stopped) / 1000;
    result.own = { steady: own.cpu / own.wall, whole: whole.cpu, memory: whole.memory };
  }
  let inside;
  let ending;
  // What V8's own profiler writes at the end counts too.
  const { memory } = await lastUsage(target.child, async () => {
    inside = await target.ask('end');
    ending = Date.now();
  });
  result.memory = memory;
  if (variant.read) result.writing = (Date.now() - ending) / 1000;
  if (variant.profiler) result.writing = inside.writing;

  const got = recorder ? await recorder.read() : variant.read ? variant.read(folder) : inside;
  if (variant.rate) {
    result.samples = got.samples;
    result.wanted = variant.rate * (variant.clock === 'cpu' ? worked.cpu : got.seconds);
    result.complete = got.complete;
    result.lost = got.lost;
  }
  tidy(target);
  return result;
}

/** Removes what the run has left. */
function tidy({ pid }) {
  for (const name of fs.readdirSync(folder)) fs.rmSync(path.join(folder, name), { force: true });
  fs.rmSync(`/tmp/perf-${pid}.map`, { force: true });
}

/**
 * A run for what can be seen from outside only, or only by looking on closely: the profiler is
 * started while the program works. Native frames are kept, so that frames can be counted.
 */
async function look(context, variant) {
  const target = await prepare(context, variant);
  const working = work(target);
  await wait(200);
  const recorder = variant.attach({ binary: context.binary, pid: target.pid, file: target.file, more: ['--native'] });
  let bpf = 0;
  let bpfAt = 0;
  let done = false;
  await Promise.race([recorder.ready, working]);
  working.finally(() => { done = true; }).catch(() => {});
  while (!done) {
    const time = variant.nodetap === 'ebpf' ? runTime(recorder.child.pid) : 0;
    if (time > bpf) { bpf = time; bpfAt = Date.now(); }
    await wait(50);
  }
  await working;
  recorder.stop();
  await recorder.child.ended;
  await target.ask('end');
  await target.child.ended;
  const result = {};
  if (variant.nodetap) {
    const recording = recorder.recording();
    const { samples, frames } = recording.until(bpfAt || Infinity);
    result.first = recording.first;
    result.depth = frames / samples;
    if (bpf > 0) Object.assign(result, { sample: bpf / samples / 1000, frame: bpf / frames });
    const stop = /median ([\d.]+), 99 % within ([\d.]+)/.exec(recorder.child.notes);
    if (stop) Object.assign(result, { stop: Number(stop[1]) * 1000, stop99: Number(stop[2]) * 1000 });
  } else {
    result.first = (await recorder.read()).first;
  }
  tidy(target);
  return result;
}

module.exports = { look, measure };
