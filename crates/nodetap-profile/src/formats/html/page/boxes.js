// Drawing frames as boxes with as much of their names as has room.

const ROW = 19;
const FONT = '12px system-ui, -apple-system, "Segoe UI", "Noto Sans", "DejaVu Sans", sans-serif';
const PADDING = 4;
// Narrower ones have no name.
const MIN_LABELLED = 26;
// More of a name is never drawn.
const MAX_LABEL = 300;

class Boxes {
  constructor(model, colors) {
    this.model = model;
    this.colors = colors;
    this.widths = new Map();
    // Functions that are searched for, as bytes; null: none is, and all are lit.
    this.lit = null;
    this.selected = -1;
  }

  // To be called before the boxes of a picture; `css` has the page's own colours.
  begin(context, css) {
    this.context = context;
    this.css = css;
    context.font = FONT;
    context.textBaseline = 'middle';
    context.lineWidth = 2;
  }

  isLit(fn) {
    return this.lit === null || (fn >= 0 && this.lit[fn] === 1);
  }

  // A function's box; the root has none (-1). `isFaded`: it is there to say where one is.
  draw(x, y, width, fn, name, place, isFaded) {
    const { context, colors } = this;
    const isLit = this.isLit(fn);
    const gap = width > 3 ? 1 : 0;
    context.globalAlpha = isLit ? (isFaded ? 0.6 : 1) : 0.22;
    context.fillStyle = fn < 0 ? this.css.root : colors.ofFunction(fn);
    context.fillRect(x, y, Math.max(width - gap, 0.4), ROW - 1);
    if (width >= MIN_LABELLED) {
      context.globalAlpha = isLit ? 1 : 0.55;
      const text = fn < 0 ? [this.css.ink, this.css.ink] : colors.textOn(fn);
      this.label(x + PADDING, y + ROW / 2, width - gap - 2 * PADDING, [name, place], text);
    }
    context.globalAlpha = 1;
    if (fn >= 0 && fn === this.selected && width > 2) {
      context.strokeStyle = this.css.ink;
      context.strokeRect(x + 1, y + 1, width - gap - 2, ROW - 3);
    }
  }

  // What is too narrow to be told apart.
  drawRest(x, y, width) {
    if (width < 0.4) return;
    this.context.globalAlpha = this.lit ? 0.22 : 0.7;
    this.context.fillStyle = this.css.rest;
    this.context.fillRect(x, y, width, ROW - 1);
    this.context.globalAlpha = 1;
  }

  // The frame that keys are at.
  drawCursor(x, y, width) {
    const { context } = this;
    context.strokeStyle = this.css.focus;
    context.strokeRect(x + 1, y, Math.max(width - 2, 2), ROW - 1);
  }

  label(x, y, room, [name, place], [ink, faint]) {
    const { context } = this;
    context.fillStyle = ink;
    const shown = this.cut(name, room);
    context.fillText(shown, x, y);
    const left = room - this.width(shown) - 6;
    if (place && left > 60 && shown === name) {
      context.fillStyle = faint;
      context.fillText(this.cut(place, left), x + this.width(name) + 6, y);
    }
  }

  width(text) {
    let width = this.widths.get(text);
    if (width === undefined) {
      width = this.context.measureText(text).width;
      if (this.widths.size > 50000) this.widths.clear();
      this.widths.set(text, width);
    }
    return width;
  }

  // As much of the beginning as has room.
  cut(text, room) {
    if (text.length > MAX_LABEL) text = text.slice(0, MAX_LABEL);
    if (this.width(text) <= room) return text;
    let fits = 0;
    let tooLong = text.length;
    while (tooLong - fits > 1) {
      const middle = (fits + tooLong) >> 1;
      const width = this.context.measureText(`${text.slice(0, middle)}…`).width;
      if (width <= room) fits = middle;
      else tooLong = middle;
    }
    // Never half of a character of two units.
    if (/[\ud800-\udbff]/.test(text[fits - 1] ?? '')) fits--;
    return fits > 0 ? `${text.slice(0, fits)}…` : '';
  }
}

// The page's colours, for what is drawn.
function readCss() {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    ink: color('ink'),
    faint: color('faint'),
    line: color('line'),
    panel: color('panel'),
    root: color('root'),
    rest: color('rest'),
    focus: color('focus'),
    lane: color('lane'),
  };
}
