'use strict';
// What profilers cost the program: node bench.js NODETAP NODES MODULES [WORD=VALUE…].
// NODES is a folder of Node.js versions, MODULES the node_modules of bench/npm. Words:
//
//   rounds=7        how often each program runs under each variant
//   turns=8         how often each variant has its turn to be switched on and off
//   programs=…      minifier,server,mix
//   variants=…      some of them, by what their names begin with
//   nodes=24.21.0   versions
//   amount=1        how much of the usual work is done
//   minutes=25      no more rounds after that
//   docs=FILE       where to put the tables, if it is a whole run
//
// docs/benchmarks.md says how it is done and how to read it.

const path = require('path');
const { fork } = require('child_process');
const { account } = require('./bpf');
const { atExit, killAllBut, running, within } = require('./processes');
const { date, load: machineLoad, machine } = require('./machine');
const { look, measure } = require('./measure');
const { looks, switches, timings } = require('./report');
const { measureSwitched } = require('./switched');
const { replace } = require('./table');
const { variants: all } = require('./variants');

const PROGRAMS = ['minifier', 'server', 'mix'];
/** What runs long enough in one process; a server has its requests from outside. */
const SWITCHED = 'minifier';
const WHOLE = 7;
const WHOLE_TURNS = 8;
/** No run takes as long. */
const TIMEOUT = 90;
/** What does not run twice will not run at all. */
const FAILURES = 2;

const [binary, nodes, modules, ...words] = process.argv.slice(2).map((word) => (/^\w+=/.test(word) ? word : path.resolve(word)));
const said = Object.fromEntries(words.map((word) => word.split(/=(.*)/s)));
const list = (value) => value.split(/[, ]+/).filter(Boolean);
const options = {
  rounds: Number(said.rounds || WHOLE),
  turns: Number(said.turns || WHOLE_TURNS),
  programs: list(said.programs || PROGRAMS.join()),
  versions: list(said.nodes || '24.21.0'),
  amount: Number(said.amount || 1),
  minutes: Number(said.minutes || 25),
};
const variants = said.variants ? all.filter(({ name }) => list(said.variants).some((some) => name.startsWith(some.replace(/_/g, ' ')))) : all;

/** The process that sends requests; one for all runs. */
function startLoad() {
  const child = fork(path.join(__dirname, 'load.js'));
  atExit(() => child.kill('SIGKILL'));
  return (what) => new Promise((resolve, reject) => {
    child.once('message', (answer) => (answer.error ? reject(new Error(answer.error)) : resolve(answer)));
    child.send(what);
  });
}

/** `work`, with whatever it started gone if it fails. */
async function bounded(what, work) {
  const before = new Set(running);
  try {
    return await within(TIMEOUT * Math.max(1, options.amount), what, work());
  } catch (error) {
    killAllBut(before);
    throw error;
  }
}

/** All runs of all programs on one version: rounds of { variant: measurement } for each program. */
async function measureAll(context, missing) {
  const results = new Map(options.programs.map((program) => [program, { rounds: [], failures: new Map(missing) }]));
  const started = Date.now();
  for (let round = 0; round < options.rounds; round++) {
    const passed = (Date.now() - started) / 60000;
    if (round > 0 && passed * (round + 1) / round > options.minutes) {
      console.error(`after ${passed.toFixed(0)} minutes: no more rounds`);
      break;
    }
    for (const program of options.programs) {
      const { rounds, failures } = results.get(program);
      const measured = {};
      rounds.push(measured);
      // Each round begins with another one.
      const shift = (round * 3) % variants.length;
      for (const variant of [...variants.slice(shift), ...variants.slice(0, shift)]) {
        const { name } = variant;
        const tries = failures.get(`${name} failures`) ?? 0;
        if (missing.has(name) || tries >= FAILURES) continue;
        try {
          measured[name] = await bounded(name, () => measure({ ...context, program }, variant));
        } catch (error) {
          failures.set(name, error.message).set(`${name} failures`, tries + 1);
        }
        const { cpu, wall } = measured[name] ?? {};
        console.error(`round ${round + 1}, ${program}, ${name}: ${cpu ? `${cpu.toFixed(2)} s of CPU time, ${wall.toFixed(2)} s` : failures.get(name)}`);
      }
    }
  }
  return results;
}

/** The looks, with the kernel's account of BPF programs switched on. */
async function lookAtAll(context, missing) {
  const reset = account();
  const looked = [];
  for (const variant of variants.filter(({ name, nodetap, flags }) => !missing.has(name) && (nodetap || flags?.length === 0))) {
    for (const program of options.programs) {
      const entry = { variant: variant.name, program };
      looked.push(entry);
      try {
        entry.result = await bounded(variant.name, () => look({ ...context, program }, variant));
      } catch (error) {
        entry.failure = error.message;
      }
      console.error(`look, ${program}, ${variant.name}: ${entry.failure ?? 'done'}`);
    }
  }
  reset();
  return looked;
}

/** Why some variants cannot run here. */
async function whatIsMissing(context) {
  const missing = new Map();
  for (const variant of variants) {
    try {
      await variant.missing?.(context);
    } catch (error) {
      missing.set(variant.name, `not here: ${error.message}`);
    }
  }
  return missing;
}

(async () => {
  const load = startLoad();
  const text = [];
  let rounds = options.rounds;
  const begun = `${date()}, ${machineLoad()}`;
  for (const version of options.versions) {
    const context = { binary, node: path.join(nodes, version, 'bin/node'), modules, amount: options.amount, load };
    const missing = await whatIsMissing(context);
    const results = await measureAll(context, missing);
    const looked = await lookAtAll(context, missing);
    const failures = new Map(missing);
    const switched = options.programs.includes(SWITCHED) && options.turns > 0
      ? await measureSwitched({ ...context, program: SWITCHED }, variants, options.turns, failures)
      : undefined;
    for (const [program, result] of results) {
      if (options.rounds === 0) break;
      rounds = Math.min(rounds, result.rounds.length);
      text.push(`### ${program}, Node.js ${version}\n\n${timings(result.rounds, variants, result.failures)}\n`);
    }
    if (switched) text.push(`### ${SWITCHED}, switched on and off, Node.js ${version}\n\n${switches(switched, variants, failures)}\n`);
    text.push(`### Taking a sample, Node.js ${version}\n\n${looks(looked)}\n`);
  }
  const command = `make bench${words.filter((word) => !/^docs=|=$/.test(word)).map((word) => ` ${word.replace(/^\w+/, (name) => name.toUpperCase())}`).join('')}`;
  const head = `${machine()}. Begun ${begun}; ended ${date()}, ${machineLoad()}. \`${command}\`: ${rounds} rounds.\n`;
  const whole = `${head}\n${text.join('\n')}`.trimEnd();
  console.log(whole);
  // What was tried quickly is not for the books.
  if (said.docs && rounds >= WHOLE && options.turns >= WHOLE_TURNS && variants === all && options.programs.length === PROGRAMS.length && options.amount === 1) {
    replace(said.docs, 'bench', whole);
  }
  process.exit(0);
})().catch((error) => {
  console.error(`error: ${error.message}`);
  process.exit(1);
});
