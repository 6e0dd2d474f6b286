// Draws what is on a terminal's screen as an SVG picture. On stdin: text with the escapes
// that `tmux capture-pane -e -p` writes. docs/top.svg was made so, on a server under load:
//
//   tmux new-session -d -x 100 -y 26 'sudo nodetap top -p PID'; sleep 20
//   tmux capture-pane -e -p | node scripts/terminal-svg.js > docs/top.svg
'use strict';

const CELL = { width: 8.4, height: 18 };
const MARGIN = 12;
const FONT = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace";
const BACKGROUND = '#1c2128';
const FOREGROUND = '#d1d7e0';
// The sixteen, as many terminals have them on a dark ground.
const COLOURS = [
  '#2d333b', '#f47067', '#6bc46d', '#daaa3f', '#6cb6ff', '#dcbdfb', '#56d4dd', '#b1bac4',
  '#768390', '#ff938a', '#8ddb8c', '#eac55f', '#96d0ff', '#e2c5ff', '#76e3ea', '#ffffff',
];

const escape = (text) =>
  text.replace(/[&<>"]/g, (it) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[it]);

function apply(style, codes) {
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code === 0) Object.assign(style, { fg: null, bg: null, bold: false, dim: false, inverse: false });
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 22) style.bold = style.dim = false;
    else if (code === 7) style.inverse = true;
    else if (code === 27) style.inverse = false;
    else if (code >= 30 && code <= 37) style.fg = COLOURS[code - 30];
    else if (code >= 90 && code <= 97) style.fg = COLOURS[code - 82];
    else if (code === 39) style.fg = null;
    else if (code >= 40 && code <= 47) style.bg = COLOURS[code - 40];
    else if (code >= 100 && code <= 107) style.bg = COLOURS[code - 92];
    else if (code === 49) style.bg = null;
    else if ((code === 38 || code === 48) && codes[i + 1] === 5) {
      style[code === 38 ? 'fg' : 'bg'] = COLOURS[codes[i + 2]] ?? null;
      i += 2;
    }
  }
}

/** The pieces of a line that have one style each. */
function pieces(line, style) {
  const found = [];
  let column = 0;
  for (const part of line.split(/(\x1b\[[0-9;]*m)/)) {
    const codes = /^\x1b\[([0-9;]*)m$/.exec(part);
    if (codes) {
      apply(style, codes[1].split(';').map(Number));
    } else if (part !== '') {
      const length = [...part].length;
      found.push({ text: part, column, length, style: { ...style } });
      column += length;
    }
  }
  return { found, length: column };
}

const style = {};
apply(style, [0]);
const text = require('fs').readFileSync(0, 'utf8').replace(/\n+$/, '');
const lines = text.split('\n').map((line) => pieces(line, style));
const columns = Math.max(...lines.map((line) => line.length));
const round = (number) => Math.round(number * 10) / 10;
const width = round(columns * CELL.width + 2 * MARGIN);
const height = lines.length * CELL.height + 2 * MARGIN;

const out = [
  `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`,
  `<rect width="100%" height="100%" rx="8" fill="${BACKGROUND}"/>`,
  `<g font-family="${FONT}" font-size="14" fill="${FOREGROUND}" xml:space="preserve">`,
];
lines.forEach(({ found }, row) => {
  const top = MARGIN + row * CELL.height;
  for (const { text, column, length, style } of found) {
    let [fg, bg] = [style.fg, style.bg];
    if (style.inverse) [fg, bg] = [bg ?? BACKGROUND, fg ?? FOREGROUND];
    const x = round(MARGIN + column * CELL.width);
    const wide = round(length * CELL.width);
    if (bg) out.push(`<rect x="${x}" y="${top}" width="${wide}" height="${CELL.height}" fill="${bg}"/>`);
    const attributes = [
      fg && `fill="${fg}"`,
      style.bold && 'font-weight="bold"',
      style.dim && 'opacity="0.6"',
    ].filter(Boolean);
    // Blanks at its ends, or several in a row, would not be drawn as wide as they are.
    for (const words of text.matchAll(/\S+(?: \S+)*/g)) {
      const before = [...text.slice(0, words.index)].length;
      const at = round(x + before * CELL.width);
      // Whatever font there is: it is as wide as in the terminal.
      const length = round([...words[0]].length * CELL.width);
      out.push(
        `<text x="${at}" y="${top + 13.5}" textLength="${length}" ${attributes.join(' ')}>${escape(words[0])}</text>`,
      );
    }
  }
});
out.push('</g>', '</svg>', '');
process.stdout.write(out.join('\n'));
