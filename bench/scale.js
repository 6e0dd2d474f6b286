'use strict';
// How nodetap's cost grows: node scale.js NODETAP NODES MODULES [WORD=VALUE…]. Words:
//
//   cases=…         processes,depth,rate,functions,time: some of them
//   seconds=10      how long each recording is, but for
//   duration=180    the one that shows what grows with time
//   nodes=24.21.0   the version
//   most=…          leaves out what is larger (processes=200,depth=10000,functions=100000)
//   docs=FILE       where to put the tables, if it is a whole run
//
// docs/benchmarks.md says how to read it.

const fs = require('fs');
const path = require('path');
const { account, runTime } = require('./bpf');
const { date, load, machine } = require('./machine');
const { startNodetap } = require('./nodetap');
const { cpu, folder, killAllBut, lastLine, lastUsage, memory, running, start, wait, within } = require('./processes');
const { of, replace, table } = require('./table');

/** Starting, attaching and writing take no longer. */
const TIMEOUT = 180;
const TIMES = 8;

const [binary, nodes, , ...words] = process.argv.slice(2).map((word) => (/^\w+=/.test(word) ? word : path.resolve(word)));
const said = Object.fromEntries(words.map((word) => word.split(/=(.*)/s)));
const seconds = Number(said.seconds || 10);
const duration = Number(said.duration || 180);
const version = said.nodes || '24.21.0';
const most = Number(said.most || Infinity);
const ALL = ['processes', 'depth', 'rate', 'functions', 'time'];
const chosen = said.cases ? said.cases.split(/[, ]+/) : ALL;

/** What is run: how many processes of which kind, and nodetap's options. */
const cases = {
  processes: [1, 10, 50, 200].map((count) => ({ name: count === 1 ? '1 process' : `${count} processes`, size: count, count, kind: 'loop' })),
  depth: [100, 500, 1000, 10000].map((depth) => ({
    name: `${depth} frames deep`,
    size: depth,
    kind: 'deep',
    number: depth,
    flags: ['--stack-size=7000'],
    // Node's own frames are on the stack too.
    more: ['--max-depth', depth + 100],
  })),
  rate: [99, 999, 4999, 9999].map((rate) => ({ name: `${rate} Hz`, size: 0, rate, kind: 'mix' })),
  functions: [1000, 10000, 100000].map((number) => ({ name: `${number} functions, 9999 Hz`, size: number, rate: 9999, kind: 'functions', number })),
};

/** Starts a program, and waits until it is ready to be busy. */
async function startIdle({ kind, number = 0, flags = [] }) {
  const script = path.join(__dirname, 'programs/forever.js');
  const child = start(path.join(nodes, version, 'bin/node'), [...flags, script, kind, String(number)], { stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.on('error', () => {});
  await Promise.race([
    new Promise((resolve) => child.stdout.once('data', resolve)),
    child.ended.then((end) => { throw new Error(`the program ended with ${end}: ${lastLine(child.notes)}`); }),
  ]);
  return child;
}

/** CPU seconds of some processes. */
const cpuOf = (children) => children.reduce((sum, { pid }) => sum + (cpu(pid) ?? 0), 0);

/** Records for some time; `during` is asked meanwhile. */
async function record({ count = 1, rate = 999, more = [], ...program }, time, during = wait) {
  const targets = [];
  for (let i = 0; i < count; i++) targets.push(await startIdle(program));
  for (const { stdin } of targets) stdin.write('go\n');
  const file = path.join(folder, 'scale.json');
  const begun = Date.now();
  const recorder = startNodetap(binary, { pids: targets.map(({ pid }) => pid), rate, sampler: 'ebpf', file, more });
  const { child } = recorder;
  await recorder.ready;
  const attach = Date.now() - begun;

  const before = { targets: cpuOf(targets), own: cpu(child.pid), at: Date.now() };
  await during(time * 1000, child);
  const bpf = runTime(child.pid);
  const own = (cpu(child.pid) - before.own) / ((Date.now() - before.at) / 1000);
  const used = cpuOf(targets) - before.targets;
  const stopped = Date.now();
  const whole = await lastUsage(child, recorder.stop);
  const writing = (Date.now() - stopped) / 1000;

  for (const target of targets) target.kill('SIGKILL');
  await Promise.all(targets.map(({ ended }) => ended));
  const got = recorder.read();
  const size = fs.statSync(file).size / 2 ** 20;
  fs.rmSync(file);
  return { attach, ...got, share: got.samples / (rate * used), kernel: bpf / got.samples / 1000, own, memory: whole.memory, writing, size };
}

const HEAD = ['', 'samples', 'of those wanted', 'lost', 'complete', 'kernel µs/sample', 'own CPU', 'memory', 'attached after', 'writing', 'result'];

const row = (name, r) => [
  name,
  String(r.samples),
  of(100 * r.share, 1, ' %'),
  String(r.lost),
  of(100 * r.complete, 2, ' %'),
  of(r.kernel, 1),
  of(100 * r.own, 1, ' %'),
  of(r.memory, 0, ' MB'),
  of(r.attach, 0, ' ms'),
  of(r.writing, 2, ' s'),
  of(r.size, 1, ' MB'),
];

/** One case; a row that says why, where it does not work. */
async function attempt(name, time, work, failed) {
  const before = new Set(running);
  console.error(`${name} …`);
  try {
    return await within(TIMEOUT + time, name, work());
  } catch (error) {
    killAllBut(before);
    return failed(error.message);
  }
}

/** A long recording: what memory, CPU and the result's size are as time goes on. */
async function overTime() {
  const rows = [['minutes', 'memory', 'grown a minute', 'own CPU']];
  const every = duration / TIMES;
  const program = { kind: 'mix' };
  const result = await record(program, duration, async (ms, child) => {
    let last = { memory: memory(child.pid, 'VmRSS'), cpu: cpu(child.pid) };
    const begun = Date.now();
    for (let i = 1; i <= TIMES; i++) {
      await wait(begun + i * every * 1000 - Date.now());
      const now = { memory: memory(child.pid, 'VmRSS'), cpu: cpu(child.pid) };
      rows.push([
        of(i * every / 60, 1),
        of(now.memory, 1, ' MB'),
        of((now.memory - last.memory) / (every / 60), 2, ' MB'),
        of(100 * (now.cpu - last.cpu) / every, 1, ' %'),
      ]);
      last = now;
    }
  });
  return { rows, result };
}

(async () => {
  const reset = account();
  const begun = `${date()}, ${load()}`;
  const rows = [HEAD];
  for (const one of ALL.filter((name) => chosen.includes(name)).flatMap((name) => cases[name] ?? [])) {
    if (one.size > most) continue;
    rows.push(await attempt(one.name, seconds, async () => row(one.name, await record(one, seconds)), (why) => [one.name, why]));
  }
  let text = '';
  if (chosen.includes('time')) {
    const name = `${of(duration / 60, duration % 60 ? 1 : 0)} minutes`;
    const { rows: times, result } = await attempt(name, duration, overTime, (failure) => ({ rows: [['minutes', 'memory'], [failure, '–']] }));
    if (result) rows.push(row(name, result));
    text = `\nMemory while it records for ${name}:\n\n${table(times)}`;
  }
  reset();
  const named = words.filter((word) => !/^docs=|=$/.test(word)).map((word) => ` ${word.replace(/^\w+/, (name) => name.toUpperCase())}`);
  const whole = `${machine()}, Node.js ${version}. Begun ${begun}; ended ${date()}, ${load()}. \`make bench-scale${named.join('')}\`.\n\n${table(rows)}\n${text}`.trimEnd();
  console.log(whole);
  if (said.docs && chosen === ALL && most === Infinity && seconds >= 10) replace(said.docs, 'scale', whole);
  process.exit(0);
})().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
