'use strict';
// The profiled process: a program under bench/programs, spoken to by lines.

const fs = require('fs');
const path = require('path');
const readline = require('readline');
const { atExit, lastLine, start } = require('./processes');

/**
 * Starts a program. So that processes differ as little as may be, V8 hashes and draws its
 * numbers alike in all of them, and addresses are not drawn at random.
 */
function startTarget({ node, flags = [], program, modules, amount, profiler, file }) {
  const script = path.join(__dirname, 'programs/run.js');
  const words = [program, modules, String(amount), ...(profiler ? [profiler, file] : [])];
  const command = [node, '--hash-seed=1', '--random-seed=1', ...flags, script, ...words];
  const child = start('setarch', ['-R', ...command], { stdio: ['pipe', 'pipe', 'pipe'] });
  atExit(() => fs.rmSync(`/tmp/perf-${child.pid}.map`, { force: true }));
  // It may have ended before all was said to it.
  child.stdin.on('error', () => {});
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** Tells it a word; gives the answer. */
  async function ask(word) {
    child.stdin.write(`${word}\n`);
    const { value, done } = await lines.next();
    if (done) throw new Error(`the program has ended (${await child.ended}): ${lastLine(child.notes)}`);
    return JSON.parse(value);
  }
  return { ask, child, pid: child.pid };
}

module.exports = { startTarget };
