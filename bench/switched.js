'use strict';
// A profiler that is switched on and off while one process does the same work again and
// again. Two processes differ by more than a good profiler costs, as V8 never compiles
// alike twice: here each piece of work is compared with those before and after it, in the
// same process.

const path = require('path');
const { folder, wait } = require('./processes');
const { startTarget } = require('./target');

/** A piece of work is this much of the usual. */
const AMOUNT = 0.2;
/** How often the program warms up: until V8 has little left to compile. */
const WARM = 20;
/** So many pieces are done with the profiler, and as many without, before it changes. */
const PIECES = 4;
/** How often it changes; then it is another variant's turn. */
const TIMES = 3;
/** So that the profiler is there, and gone. */
const SETTLE_MS = 300;
/**
 * When the garbage collector has what to do is chance, and makes the most of how pieces
 * differ. With so much room it seldom has.
 */
const ROOM = ['--min-semi-space-size=128', '--max-semi-space-size=128', '--initial-old-space-size=3000'];

let files = 0;

/** The process of a variant: { ask, child, pid }. */
async function prepare({ node, program, modules, amount }, variant) {
  const file = path.join(folder, `switched-${++files}`);
  const target = startTarget({ node, program, modules, amount: amount * AMOUNT, file, flags: ROOM, profiler: variant.profiler });
  for (let i = 0; i < WARM; i++) await target.ask('warm');
  return target;
}

/** Does some pieces of work: CPU and wall seconds of all. */
async function pieces({ ask }) {
  const sum = { cpu: 0, wall: 0 };
  // What begins has something to do that is soon over: functions get their names, caches are cold.
  await ask('go');
  await ask('done');
  for (let i = 0; i < PIECES; i++) {
    await ask('go');
    const { cpu, wall } = await ask('done');
    sum.cpu += cpu;
    sum.wall += wall;
  }
  return sum;
}

/** The same under the variant's profiler, which is not there before and after it. */
async function profiled(target, variant, binary) {
  if (variant.profiler) {
    await target.ask('profile');
    const usage = await pieces(target);
    await target.ask('stop');
    return usage;
  }
  const recorder = variant.attach?.({ binary, pid: target.pid, file: path.join(folder, 'switched') });
  await recorder?.ready;
  await wait(SETTLE_MS);
  const usage = await pieces(target);
  recorder?.stop();
  await recorder?.child.ended;
  return usage;
}

/** Whether the profiler can be had while the process runs. */
const isSwitched = (variant) => variant.profiler || (variant.attach && !variant.flags?.length) || variant.name === 'nothing, again';

/**
 * By variant: { cpu, wall }, for each time that the profiler was there how much longer the
 * work took than before and after it. Each variant has so many turns.
 */
async function measureSwitched(context, variants, turns, failures) {
  const results = new Map();
  const targets = new Map();
  for (let turn = 1; turn <= turns; turn++) {
    for (const variant of variants.filter(isSwitched)) {
      const { name } = variant;
      if (failures.has(name)) continue;
      try {
        if (!targets.has(name)) targets.set(name, await prepare(context, variant));
        const target = targets.get(name);
        const ratios = results.get(name) ?? { cpu: [], wall: [] };
        results.set(name, ratios);
        let before = await pieces(target);
        for (let i = 0; i < TIMES; i++) {
          const usage = await profiled(target, variant, context.binary);
          await wait(SETTLE_MS);
          const after = await pieces(target);
          for (const what of ['cpu', 'wall']) ratios[what].push(2 * usage[what] / (before[what] + after[what]));
          before = after;
        }
        console.error(`switched ${turn}, ${context.program}, ${name}`);
      } catch (error) {
        failures.set(name, error.message);
        results.delete(name);
        console.error(`switched ${turn}, ${context.program}, ${name}: ${error.message}`);
      }
    }
  }
  for (const { child } of targets.values()) child.kill('SIGKILL');
  return results;
}

module.exports = { isSwitched, measureSwitched };
