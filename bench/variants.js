'use strict';
// What the program is run under. Each variant says how its profiler gets at the process:
//
//   flags     options of Node.js
//   profiler  one of programs/profilers.js, inside of the process
//   attach    starts a profiler beside the process
//
// how often it is to sample, and by which clock: that of CPU time counts for every thread,
// that on the wall for the main thread.

const fs = require('fs');
const path = require('path');
const { startNodetap } = require('./nodetap');
const { startPerf } = require('./perf');
const { run } = require('./processes');

const nodetap = (sampler, rate) => ({
  name: `nodetap ${sampler === 'ebpf' ? 'eBPF' : sampler} ${rate} Hz`,
  rate,
  clock: 'cpu',
  nodetap: sampler,
  attach: ({ binary, pid, file, more }) => startNodetap(binary, { pids: [pid], rate, sampler, file: `${file}.json`, more }),
});

const perf = (name, flags) => ({
  name,
  flags,
  rate: 999,
  clock: 'cpu',
  perf: true,
  attach: ({ pid, file }) => startPerf({ pid, rate: 999, file }),
  async missing() {
    await run('perf', ['--version']);
  },
});

const variants = [
  { name: 'nothing', alone: true },
  nodetap('ebpf', 99),
  nodetap('ebpf', 999),
  nodetap('ptrace', 99),
  nodetap('ptrace', 999),
  { name: 'nothing, again', alone: true },
  {
    name: '--cpu-prof',
    rate: 1000,
    clock: 'wall',
    flags: ['--cpu-prof', '--cpu-prof-interval', '1000'],
    /** What the process has written at its end, in its folder. */
    read(folder) {
      const name = fs.readdirSync(folder).find((file) => file.endsWith('.cpuprofile'));
      const { samples, startTime, endTime } = JSON.parse(fs.readFileSync(path.join(folder, name), 'utf8'));
      return { samples: samples.length, seconds: (endTime - startTime) / 1e6 };
    },
  },
  { name: 'inspector', rate: 1000, clock: 'wall', profiler: 'inspector' },
  perf('perf', []),
  perf('perf, --perf-basic-prof', ['--perf-basic-prof']),
  {
    name: '@datadog/pprof',
    rate: 1000,
    clock: 'wall',
    profiler: 'datadog',
    /** Its native code is there for some versions of Node.js. */
    async missing({ node, modules }) {
      await run(node, ['-e', 'require(process.argv[1])', path.join(modules, '@datadog/pprof')]);
    },
  },
];

module.exports = { variants };
