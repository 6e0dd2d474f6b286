// Makes the README's table of what nodetap says of frames against what is true.
//
// Usage: node accuracy.js RESULTS README
//
// RESULTS has a JSON line for each recording that the oracle tests compared with the
// true stack (NODETAP_ACCURACY; see crates/nodetap/tests/common/accuracy.rs). The table
// goes between the two marks in README.
'use strict';

const fs = require('fs');

const [results, readme] = process.argv.slice(2);
const BEGIN = '<!-- accuracy: begin (made by `make accuracy`) -->';
const END = '<!-- accuracy: end -->';
const COLUMNS = [
  ['full-codegen', (it) => it.tier === 'unoptimized'],
  ['interpreted', (it) => it.tier === 'interpreted'],
  ['baseline', (it) => it.tier === 'baseline'],
  ['Maglev', (it) => it.tier === 'maglev' && !it.inlined],
  ['optimized', (it) => it.tier === 'optimized' && !it.inlined],
  ['inlined', (it) => it.inlined],
];

// Rounded down: only what never failed is 100.
const percent = (part, all) => {
  const floor = Math.floor((1000 * part) / all) / 10;
  return floor === 100 ? '100' : floor.toFixed(1);
};

function cell(counts) {
  const sum = (part) => counts.reduce((all, it) => all + it[part], 0);
  const frames = sum('frames');
  if (frames === 0) return '';
  const parts = ['name', 'script', 'line'].map((part) => percent(sum(part), frames));
  parts.push(sum('waiting') ? percent(sum('column'), sum('waiting')) : '-');
  return parts.every((part) => part === parts[0]) ? parts[0] : parts.join(' / ');
}

const byVersion = new Map();
for (const line of fs.readFileSync(results, 'utf8').trim().split('\n')) {
  const result = JSON.parse(line);
  if (!byVersion.has(result.node)) byVersion.set(result.node, []);
  byVersion.get(result.node).push(result);
}

const compare = (a, b) => {
  const [x, y] = [a, b].map((version) => version.split('.').map(Number));
  const at = x.findIndex((number, i) => number !== y[i]);
  return at < 0 ? 0 : x[at] - y[at];
};
const rows = [...byVersion].sort((a, b) => compare(a[0], b[0])).map(([node, all]) => {
  const tiers = all.flatMap((result) => result.tiers);
  const samples = all.reduce((sum, result) => sum + result.samples, 0);
  const right = all.reduce((sum, result) => sum + result.right, 0);
  const v8 = all[0].v8.split('.').slice(0, 2).join('.');
  const cells = COLUMNS.map(([, is]) => cell(tiers.filter(is)));
  return `| ${[node, v8, samples, percent(right, samples), ...cells].join(' | ')} |`;
});
const head = ['Node.js', 'V8', 'samples', 'whole stacks', ...COLUMNS.map(([name]) => name)];
const table = [`| ${head.join(' | ')} |`, `|${' --- |'.repeat(head.length)}`, ...rows];

const text = fs.readFileSync(readme, 'utf8');
const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)];
if (begin < 0 || end < begin) throw new Error(`${readme} has no place for the table`);
fs.writeFileSync(readme, `${text.slice(0, begin + BEGIN.length)}\n${table.join('\n')}\n${text.slice(end)}`);
console.log(table.join('\n'));
