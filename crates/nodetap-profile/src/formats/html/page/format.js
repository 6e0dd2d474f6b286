// Numbers as people read them.

const wholeNumber = new Intl.NumberFormat('en-US');

function formatCount(count) {
  return wholeNumber.format(count);
}

function formatSamples(count) {
  return `${formatCount(count)} ${count === 1 ? 'sample' : 'samples'}`;
}

function formatMs(ms) {
  if (ms >= 100000) return `${formatCount(Math.round(ms / 1000))}\u00a0s`;
  if (ms >= 1000) return `${(ms / 1000).toFixed(ms >= 10000 ? 1 : 2)}\u00a0s`;
  if (ms >= 100) return `${Math.round(ms)}\u00a0ms`;
  return `${ms.toFixed(1)}\u00a0ms`;
}

function formatShare(part, whole) {
  if (!(whole > 0)) return '–';
  const percent = 100 * part / whole;
  if (percent > 0 && percent < 0.1) return '<0.1\u00a0%';
  return `${percent.toFixed(1)}\u00a0%`;
}

// A moment, in seconds with as many digits as tell moments apart in a view this long.
function formatSeconds(seconds, viewSeconds) {
  const digits = Math.max(0, Math.min(6, 3 - Math.floor(Math.log10(viewSeconds || 1))));
  return seconds.toFixed(digits);
}

// What follows the last slash.
function baseName(path) {
  return path.slice(path.lastIndexOf('/') + 1);
}
