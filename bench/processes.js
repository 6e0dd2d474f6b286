'use strict';
// The processes that a benchmark starts, and what /proc tells of a process. Nothing that
// was started here outlives the benchmark, however that ends.

const { spawn } = require('child_process');
const fs = require('fs');
const os = require('os');
const path = require('path');

const running = new Set();
const cleanups = [];

/** A folder for what the profilers write. */
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'nodetap-bench-'));
cleanups.push(() => fs.rmSync(folder, { recursive: true, force: true }));

process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
  for (const cleanup of cleanups) cleanup();
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(128 + os.constants.signals[signal]));
}

/** Has `cleanup` run when the benchmark ends. */
function atExit(cleanup) {
  cleanups.push(cleanup);
}

/** Starts a process. Its `ended` gives how it ended, its `notes` what it wrote to stderr. */
function start(command, args, options = {}) {
  const child = spawn(command, args, { cwd: folder, ...options });
  running.add(child);
  child.notes = '';
  child.stderr?.on('data', (text) => { child.notes += text; });
  child.ended = new Promise((resolve) => {
    child.once('error', (error) => {
      running.delete(child);
      child.notes += `error: ${error.message}`;
      resolve(error.code);
    });
    child.once('close', (code, signal) => {
      running.delete(child);
      resolve(signal ?? code);
    });
  });
  return child;
}

/** Runs a command to its end, and gives what it wrote to stdout. */
async function run(command, args, options = {}) {
  const child = start(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
  const pieces = [];
  child.stdout.on('data', (piece) => pieces.push(piece));
  const end = await child.ended;
  if (end !== 0) throw new Error(`${path.basename(command)} ended with ${end}: ${lastLine(child.notes)}`);
  return Buffer.concat(pieces).toString();
}

/** Kills what `start` started since there were only the processes `before`. */
function killAllBut(before) {
  for (const child of running) if (!before.has(child)) child.kill('SIGKILL');
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What a program said in the end: its error, if it says that it is one. */
function lastLine(text) {
  const lines = text.trim().split('\n');
  return lines.findLast((line) => /^\w*error:/i.test(line)) ?? lines.pop();
}

/** CPU seconds of the threads that a process has; undefined once it is gone. */
function cpu(pid) {
  try {
    let total = 0;
    for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
      try {
        total += Number(fs.readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
      } catch { /* the thread has just ended */ }
    }
    return total > 0 ? total / 1e9 : undefined;
  } catch { return undefined; }
}

/** CPU seconds of all threads that a process has had, in hundredths; undefined once it is gone. */
function cpuOfAll(pid) {
  try {
    // The name before may hold anything.
    const fields = fs.readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch { return undefined; }
}

/** A size that /proc/PID/status tells, in MB; undefined once the process is gone. */
function memory(pid, what = 'VmHWM') {
  try {
    const match = new RegExp(`${what}:\\s+(\\d+) kB`).exec(fs.readFileSync(`/proc/${pid}/status`, 'utf8'));
    return match ? Number(match[1]) / 1024 : undefined;
  } catch { return undefined; }
}

/** Has a process end by `stop`, and looks at what it uses until it has. */
async function lastUsage(child, stop) {
  const used = () => Math.max(cpu(child.pid) ?? 0, cpuOfAll(child.pid) ?? 0);
  const usage = { cpu: used(), memory: memory(child.pid) ?? 0 };
  let ended = false;
  child.ended.then(() => { ended = true; });
  await stop();
  while (!ended) {
    usage.cpu = Math.max(usage.cpu, used());
    usage.memory = Math.max(usage.memory, memory(child.pid) ?? 0);
    await wait(10);
  }
  return usage;
}

/** Gives up on `promise` after some seconds. */
async function within(seconds, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took more than ${seconds} s`)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

module.exports = { atExit, cpu, folder, killAllBut, lastLine, lastUsage, memory, run, running, start, wait, within };
