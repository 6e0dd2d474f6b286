'use strict';
// The machine, in a line.

const fs = require('fs');
const os = require('os');

function machine() {
  const model = /^model name\s*:\s*(.*)$/m.exec(fs.readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown CPU';
  const virtual = /^flags\s*:.*\bhypervisor\b/m.test(fs.readFileSync('/proc/cpuinfo', 'utf8'));
  const cores = `${os.cpus().length} cores${virtual ? ' of a virtual machine' : ''}`;
  return `${model}, ${cores}, ${Math.round(os.totalmem() / 2 ** 30)} GB, Linux ${os.release()}`;
}

/** How much else there is to do on it. */
const load = () => `load ${os.loadavg()[0].toFixed(1)}`;

/** `2026-11-23 13:25 UTC` */
const date = () => `${new Date().toISOString().slice(0, 16).replace('T', ' ')} UTC`;

module.exports = { date, load, machine };
