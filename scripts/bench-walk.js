'use strict';
// What sampling costs: node bench-walk.js NODETAP NODES. Records a program with a stack
// about 30 frames deep, at 999 Hz for ten seconds, on each Node.js of nodes.sha256 (they
// are in the folder NODES), and prints one line for each:
//
//   frames/sample   how deep the stacks were, native frames included
//   us/sample       run time of the BPF program for each sample taken, by the kernel's
//                   own account (bpf_stats_enabled); its runs for other processes count
//   ns/frame        the same for each frame
//   CPU             nodetap's own, in percent of a core: while it records, and with
//                   its start and the naming and writing at its end
//   peak RSS        nodetap's own
//   first sample    after the start of the nodetap process

const { spawn, spawnSync } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const SECONDS = 10;
const RATE = 999;
const DEPTH = 12;
const TICKS = Number(spawnSync('getconf', ['CLK_TCK']).stdout);
const STATS = '/proc/sys/kernel/bpf_stats_enabled';
const program = path.join(__dirname, '../crates/nodetap/tests/fixtures/deep.js');
const versions = fs.readFileSync(path.join(__dirname, 'nodes.sha256'), 'utf8').match(/\d+\.\d+\.\d+/g);
const [nodetap, nodes] = process.argv.slice(2);

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** CPU seconds of a process, or undefined once it is gone. */
function cpu(pid) {
  try {
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/.*\) /s, '').split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch { return undefined; }
}

function peakMemory(pid) {
  const match = /VmHWM:\s+(\d+) kB/.exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
  return match && Number(match[1]) / 1024;
}

/** Run time (ns) of the BPF programs that a process holds. */
function bpfRunTime(pid) {
  let total = 0;
  for (const fd of fs.readdirSync(`/proc/${pid}/fdinfo`)) {
    try {
      const match = /^run_time_ns:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'));
      if (match) total += Number(match[1]);
    } catch { /* closed meanwhile */ }
  }
  return total;
}

async function measure(version) {
  const target = spawn(path.join(nodes, version, 'bin/node'), [program, String(DEPTH)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const output = path.join(os.tmpdir(), `nodetap-bench-${process.pid}.json`);
  try {
    await new Promise((resolve) => target.stdout.once('data', resolve));
    const started = Date.now();
    const recorder = spawn(nodetap, ['record', '-p', target.pid, '-d', SECONDS, '-r', RATE, '--native', '-f', 'json', '-o', output], { stdio: ['ignore', 'ignore', 'pipe'] });
    let notes = '';
    recorder.stderr.on('data', (text) => { notes += text; });
    const ended = new Promise((resolve) => recorder.once('close', resolve));

    let memory = 0;
    let used = 0;
    let bpf = 0;
    let bpfAt = 0;
    const steady = [];
    while (recorder.exitCode === null && recorder.signalCode === null) {
      const now = Date.now() - started;
      try {
        used = cpu(recorder.pid) ?? used;
        memory = Math.max(memory, peakMemory(recorder.pid));
        const time = bpfRunTime(recorder.pid);
        if (time > bpf) { bpf = time; bpfAt = Date.now(); }
      } catch { /* it just ended */ }
      if (now > 1500 && now < SECONDS * 1000) steady.push([now, used]);
      await wait(20);
    }
    if (await ended !== 0) throw new Error(`nodetap failed: ${notes}`);

    const recording = JSON.parse(fs.readFileSync(output, 'utf8'));
    // Those taken until the account was read last.
    const start = Date.parse(recording.start);
    const samples = recording.samples.filter(([time]) => start + time / 1000 <= bpfAt);
    const frames = samples.reduce((sum, [, , stack]) => sum + recording.stacks[stack].length, 0);
    const [[t0, c0], [t1, c1]] = [steady[0], steady[steady.length - 1]];
    return {
      version,
      depth: (frames / samples.length).toFixed(1),
      sample: (bpf / samples.length / 1000).toFixed(1),
      frame: (bpf / frames).toFixed(0),
      steady: (100 * (c1 - c0) / ((t1 - t0) / 1000)).toFixed(1),
      whole: (100 * used / SECONDS).toFixed(1),
      memory: memory.toFixed(0),
      first: (start + recording.samples[0][0] / 1000 - started).toFixed(0),
    };
  } finally {
    target.kill('SIGKILL');
    fs.rmSync(output, { force: true });
  }
}

(async () => {
  const before = fs.readFileSync(STATS, 'utf8');
  fs.writeFileSync(STATS, '1');
  try {
    console.log(`${SECONDS} s at ${RATE} Hz, Linux ${os.release()}`);
    console.log('Node.js   frames/sample  us/sample  ns/frame  CPU recording  CPU whole  peak RSS  first sample');
    for (const version of versions) {
      const r = await measure(version);
      console.log(`${r.version.padEnd(9)} ${r.depth.padStart(13)} ${r.sample.padStart(10)} ${r.frame.padStart(9)} ${`${r.steady} %`.padStart(14)} ${`${r.whole} %`.padStart(10)} ${`${r.memory} MB`.padStart(9)} ${`${r.first} ms`.padStart(13)}`);
    }
  } finally {
    fs.writeFileSync(STATS, before);
  }
})().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
});
