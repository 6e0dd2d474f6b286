'use strict';
// Tables, in Markdown that can be read in a terminal as it is.

const fs = require('fs');

/**
 * A table; the first row is its head, and the first column stands to the left. A row of
 * two cells says in the second why there are no more.
 */
function table(rows) {
  const whole = rows.filter((row) => row.length === rows[0].length);
  const widths = rows[0].map((_, i) => Math.max(...(i === 0 ? rows : whole).map((row) => [...row[i]].length)));
  const line = (row) => `| ${widths.map((width, i) => {
    const cell = row[i] ?? '';
    const space = ' '.repeat(Math.max(0, width - [...cell].length));
    return i === 0 ? cell + space : space + cell;
  }).join(' | ')} |`;
  const rule = `| ${widths.map((width, i) => (i === 0 ? '-'.repeat(width) : `${'-'.repeat(Math.max(1, width - 1))}:`)).join(' | ')} |`;
  return [line(rows[0]), rule, ...rows.slice(1).map(line)].join('\n');
}

/** A number with its unit; a dash where there is none. */
function of(number, digits, unit = '') {
  return number === undefined || Number.isNaN(number) ? '–' : `${number.toFixed(digits)}${unit}`;
}

/** By how many percent a ratio differs from 1. */
function change(ratio) {
  const percent = (100 * (ratio - 1)).toFixed(1);
  return `${percent > 0 ? '+' : ''}${percent}`.replace('-', '−').replace(/^−0\.0$/, '0.0');
}

/** Puts `text` between the markers called `name` in a file. */
function replace(file, name, text) {
  const old = fs.readFileSync(file, 'utf8');
  const pattern = new RegExp(`(<!-- ${name}: begin[^>]*-->\n)[^]*(<!-- ${name}: end -->)`);
  if (!pattern.test(old)) throw new Error(`${file} has no place for ${name}`);
  fs.writeFileSync(file, old.replace(pattern, (_, begin, end) => `${begin}${text}\n${end}`));
}

module.exports = { change, of, replace, table };
