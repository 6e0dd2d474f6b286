'use strict';
// The kernel's account of BPF programs: how long they have run.

const fs = require('fs');
const { atExit } = require('./processes');

const STATS = '/proc/sys/kernel/bpf_stats_enabled';

/** Has the kernel keep it; gives what stops that. So does the end of the benchmark. */
function account() {
  const before = fs.existsSync(STATS) && fs.readFileSync(STATS, 'utf8');
  const reset = () => { if (before) fs.writeFileSync(STATS, before); };
  atExit(reset);
  if (before) fs.writeFileSync(STATS, '1');
  return reset;
}

/** Run time (ns) of the BPF programs that a process holds. */
function runTime(pid) {
  let total = 0;
  try {
    for (const fd of fs.readdirSync(`/proc/${pid}/fdinfo`)) {
      try {
        const match = /^run_time_ns:\s+(\d+)/m.exec(fs.readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8'));
        if (match) total += Number(match[1]);
      } catch { /* closed meanwhile */ }
    }
  } catch { /* it has ended */ }
  return total;
}

module.exports = { account, runTime };
