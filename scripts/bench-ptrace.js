'use strict';
// What the ptrace sampler costs the program: node bench-ptrace.js NODETAP NODES [VERSION…]. A program
// does the same work again and again, with a stack about 30 JavaScript frames deep: in
// turn alone and while nodetap samples it, 99 times a second. Prints a line for each
// Node.js (they are in the folder NODES):
//
//   frames/sample   how deep the stacks were, native frames included
//   stop            for how long the thread stood still for a sample, by nodetap's account:
//                   half of the stops were shorter than the median, 99 % than p99; medians
//                   of the rounds
//   slowdown        of the time that the work took; each round is compared with the ones
//                   alone before and after it, and the median of that is taken
//   fastest         the same, of the fastest rounds: what is left where other programs
//                   disturb the machine less

const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const ROUNDS = 9;
const ROUND_MS = 1500;
const RATE = 99;
const DEPTH = 20;
const VERSIONS = ['10.24.1', '18.20.8', '20.20.2', '24.21.0', '26.10.0'];
const program = path.join(__dirname, '../crates/nodetap/tests/fixtures/rounds.js');
const [nodetap, nodes, ...some] = process.argv.slice(2);

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const median = (numbers) => {
  const sorted = [...numbers].sort((a, b) => a - b);
  return (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
};

/** The program: gives a line for each that it is asked for. */
function start(version, steps) {
  const child = spawn(path.join(nodes, version, 'bin/node'), [program, DEPTH, steps], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = [];
  let text = '';
  child.stdout.on('data', (more) => {
    text += more;
    for (let end; (end = text.indexOf('\n')) >= 0; text = text.slice(end + 1)) waiting.shift()(text.slice(0, end));
  });
  const line = () => new Promise((resolve) => waiting.push(resolve));
  const round = () => {
    child.stdin.write('go\n');
    return line().then(Number);
  };
  return line().then(() => ({ child, round }));
}

/** Runs `task` while nodetap samples process `pid`. */
async function sampled(pid, task) {
  const output = path.join(os.tmpdir(), `nodetap-bench-${process.pid}.json`);
  const recorder = spawn(nodetap, ['record', '-p', pid, '-r', RATE, '--sampler', 'ptrace', '--native', '-o', output], { stdio: ['ignore', 'ignore', 'pipe'] });
  let notes = '';
  recorder.stderr.on('data', (more) => { notes += more; });
  const ended = new Promise((resolve) => recorder.once('close', resolve));
  try {
    // It starts; the program waits meanwhile.
    await wait(700);
    const time = await task();
    recorder.kill('SIGINT');
    if (await ended !== 0) throw new Error(`nodetap failed: ${notes}`);
    const match = /median ([\d.]+), 99 % within ([\d.]+), longest ([\d.]+)/.exec(notes);
    if (!match) throw new Error(`nodetap stopped nothing: ${notes}`);
    const recording = JSON.parse(fs.readFileSync(output, 'utf8'));
    const frames = recording.samples.reduce((sum, [, , stack]) => sum + recording.stacks[stack].length, 0);
    return { time, stops: match.slice(1).map(Number), depth: frames / recording.samples.length };
  } finally {
    recorder.kill('SIGKILL');
    fs.rmSync(output, { force: true });
  }
}

/** How many steps take as long as a round is to take. */
async function calibrate(version) {
  const steps = 5e7;
  const { child, round } = await start(version, steps);
  const times = [await round(), await round(), await round()];
  child.kill('SIGKILL');
  return Math.round(steps * ROUND_MS / Math.min(...times));
}

async function measure(version) {
  const { child, round } = await start(version, await calibrate(version));
  try {
    const alone = [await round()];
    const rounds = [];
    for (let i = 0; i < ROUNDS; i++) {
      rounds.push(await sampled(child.pid, round));
      await wait(300);
      alone.push(await round());
    }
    const slower = rounds.map(({ time }, i) => time / ((alone[i] + alone[i + 1]) / 2) - 1);
    const fastest = Math.min(...rounds.map(({ time }) => time)) / Math.min(...alone) - 1;
    const [stop, p99] = [0, 1].map((i) => median(rounds.map(({ stops }) => stops[i])));
    return {
      depth: median(rounds.map(({ depth }) => depth)).toFixed(1),
      stop: `${(stop * 1e3).toFixed(0)} us`,
      p99: `${(p99 * 1e3).toFixed(0)} us`,
      slower: `${(100 * median(slower)).toFixed(1)} %`,
      fastest: `${(100 * fastest).toFixed(1)} %`,
    };
  } finally {
    child.kill('SIGKILL');
  }
}

(async () => {
  console.log(`${ROUNDS} rounds of ${ROUND_MS / 1000} s at ${RATE} Hz, Linux ${os.release()}, ${os.cpus().length} CPUs, load ${os.loadavg()[0].toFixed(1)}`);
  console.log('Node.js   frames/sample  median stop   p99 stop  slowdown   fastest');
  for (const version of some.length ? some : VERSIONS) {
    const r = await measure(version);
    console.log(`${version.padEnd(9)} ${r.depth.padStart(13)} ${r.stop.padStart(12)} ${r.p99.padStart(10)} ${r.slower.padStart(9)} ${r.fastest.padStart(9)}`);
  }
})().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
