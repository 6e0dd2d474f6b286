'use strict';
// What is said of the runs of one program.

const { interval, median, percentile } = require('./statistics');
const { isSwitched } = require('./switched');
const { change, of, table } = require('./table');

/** How much more than alone, in the rounds that have both: middle and interval. */
function slowdown(runs, what, variant, alone) {
  const ratios = [];
  for (const round of runs) {
    const base = alone(round).map((run) => run[what]);
    if (round[variant] && base.length) ratios.push(round[variant][what] / (base.reduce((a, b) => a + b) / base.length));
  }
  if (ratios.length === 0) return '–';
  const [low, high] = interval(ratios);
  return `${change(median(ratios))} % (${change(low)} … ${change(high)})`;
}

/** The middle of what the runs of a variant have, by `get`. */
function middle(runs, variant, get) {
  const values = runs.map((round) => round[variant] && get(round[variant], round)).filter((value) => value !== undefined && !Number.isNaN(value));
  return values.length ? median(values) : undefined;
}

const signed = (megabytes) => `${megabytes < 0 ? '' : '+'}${of(megabytes, 0, ' MB')}`.replace('-', '−');

/** The table of a program: a row for each variant. `failures` says why one is missing. */
function timings(runs, variants, failures) {
  const [first, ...others] = variants.filter(({ alone }) => alone).map(({ name }) => name);
  const some = runs.flatMap((round) => Object.values(round)).find(Boolean);
  const head = ['', 'CPU time', 'wall time', ...(some?.latencies ? ['p50', 'p99', 'p99.9'] : []), 'samples', 'complete', 'own CPU', 'in all', 'memory', 'writing'];
  const rows = [head];
  for (const variant of variants) {
    const { name } = variant;
    const mid = (get) => middle(runs, name, get);
    if (mid((run) => run.cpu) === undefined) {
      rows.push([name, failures.get(name) ?? 'not run']);
      continue;
    }
    // Those that are compared with themselves have the first one only.
    const baseline = (round) => [first, ...(variant.alone ? [] : others)].map((other) => round[other]).filter(Boolean);
    const slower = (what) => (name === first ? `${of(mid((run) => run[what]), 2)} s` : slowdown(runs, what, name, baseline));
    const latency = (p) => of(mid((run) => percentile(run.latencies, p)), 2, ' ms');
    const inside = variant.profiler || variant.read;
    const more = mid((run, round) => (baseline(round).length ? run.memory - median(baseline(round).map(({ memory }) => memory)) : undefined));
    rows.push([
      name,
      slower('cpu'),
      slower('wall'),
      ...(some?.latencies ? [latency(0.5), latency(0.99), latency(0.999)] : []),
      variant.rate ? of(100 * mid((run) => run.samples / run.wanted), 1, ' %') : '',
      variant.rate && !inside ? of(100 * mid((run) => run.complete), 2, ' %') : '',
      variant.attach ? of(100 * mid((run) => run.own.steady), 1, ' %') : inside ? 'target' : '',
      variant.attach ? of(mid((run) => run.own.whole), 2, ' s') : '',
      variant.attach ? of(mid((run) => run.own.memory), 0, ' MB') : inside ? signed(more) : `(${of(mid((run) => run.memory), 0, ' MB')})`,
      variant.rate ? of(mid((run) => run.writing), 2, ' s') : '',
    ]);
  }
  return table(rows);
}

/** The table of what was switched on and off: how much longer the work took with it. */
function switches(switched, variants, failures) {
  const row = ({ name }) => {
    const ratios = switched.get(name);
    if (!ratios) return [name, failures.get(name)];
    const slower = (values) => {
      const [low, high] = interval(values);
      return `${change(median(values))} % (${change(low)} … ${change(high)})`;
    };
    return [name, slower(ratios.cpu), slower(ratios.wall), String(ratios.cpu.length)];
  };
  return table([['', 'CPU time', 'wall time', 'times'], ...variants.filter(isSwitched).map(row)]);
}

/** The table of the looks: how a sample is taken. */
function looks(looked) {
  const head = ['', 'program', 'first sample', 'frames/sample', 'kernel µs/sample', 'ns/frame', 'median stop', 'p99 stop'];
  return table([head, ...looked.map(({ variant, program, result, failure }) => (failure ? [variant, `${program}: ${failure}`] : [
    variant,
    program,
    of(result.first, 0, ' ms'),
    of(result.depth, 1),
    of(result.sample, 1),
    of(result.frame, 0),
    of(result.stop, 0, ' µs'),
    of(result.stop99, 0, ' µs'),
  ]))]);
}

module.exports = { looks, switches, timings };
