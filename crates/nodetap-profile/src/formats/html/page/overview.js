// The strip over time: how much ran when, and of what. Dragging on it chooses what part of
// the time all the rest shows.

const BIN = 3;

class Overview {
  constructor(page) {
    this.page = page;
    this.canvas = byId('overview-canvas');
    this.from = byId('range-from');
    this.to = byId('range-to');
    this.bins = null;
    this.redraw = oncePerFrame(() => this.draw());
    new ResizeObserver(() => {
      this.bins = null;
      this.draw();
    }).observe(this.canvas);
    this.listen();
  }

  // Threads or states were chosen: there are other samples to be shown.
  renew() {
    this.bins = null;
    this.redraw();
  }

  count(columns) {
    const { recording, selection, model, tree, legend } = this.page;
    const items = legend.items.length;
    const bins = new Float64Array(columns * items);
    const [first, last] = this.page.wholeRange();
    const scale = columns / (last - first);
    const isWanted = wantedLeaves(recording, model, tree, selection.waits);
    recording.threads.forEach((runs, thread) => {
      if (selection.threads && !selection.threads.has(thread)) return;
      for (let i = 0; i < runs.length; i++) {
        const leaf = runs.leaf[i];
        if (isWanted && !isWanted[leaf]) continue;
        const { group } = model.functions[tree.fn[tree.leafNode[leaf]]];
        const item = legend.itemOfGroup[group];
        const start = (runs.start[i] - first) * scale;
        const end = Math.max((runs.end[i] - first) * scale, start + 1e-9);
        const perColumn = runs.count[i] / (end - start);
        for (let column = Math.floor(start); column < end && column < columns; column++) {
          const part = Math.min(end, column + 1) - Math.max(start, column);
          bins[column * items + item] += part * perColumn;
        }
      }
    });
    return bins;
  }

  draw() {
    const { recording, legend, css } = this.page;
    if (!recording || !recording.head.has_times) return;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const scale = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    const context = this.canvas.getContext('2d');
    context.scale(scale, scale);
    const columns = Math.max(1, Math.floor(width / BIN));
    this.bins ??= this.count(columns);
    const items = legend.items.length;
    let most = 0;
    for (let column = 0; column < columns; column++) {
      let sum = 0;
      for (let item = 0; item < items; item++) sum += this.bins[column * items + item];
      most = Math.max(most, sum);
    }
    for (let column = 0; column < columns && most > 0; column++) {
      let y = height;
      for (let item = 0; item < items; item++) {
        const part = this.bins[column * items + item] / most * (height - 2);
        if (part === 0) continue;
        context.fillStyle = legend.items[item].color;
        context.fillRect(column * BIN, y - part, BIN, part);
        y -= part;
      }
    }
    this.drawRange(context, width, height, css);
  }

  drawRange(context, width, height, css) {
    const range = this.dragging ?? this.page.selection.range;
    if (!range) return;
    const [first, last] = this.page.wholeRange();
    const [a, b] = range.map((time) => (time - first) / (last - first) * width);
    context.globalAlpha = 0.75;
    context.fillStyle = css.panel;
    context.fillRect(0, 0, a, height);
    context.fillRect(b, 0, width - b, height);
    context.globalAlpha = 1;
    context.fillStyle = css.focus;
    context.fillRect(a - 1, 0, 2, height);
    context.fillRect(b - 1, 0, 2, height);
  }

  showRange() {
    const { recording, selection } = this.page;
    const unit = recording.head.unit_us / 1e6;
    const [from, to] = this.page.shownRange();
    const length = (to - from) * unit;
    this.from.value = formatSeconds(from * unit, length);
    this.to.value = formatSeconds(to * unit, length);
    byId('range-all').disabled = selection.range === null;
    this.redraw();
  }

  timeAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const [first, last] = this.page.wholeRange();
    const share = Math.max(0, Math.min(1, (event.clientX - box.left) / box.width));
    return first + share * (last - first);
  }

  listen() {
    const { canvas } = this;
    let pressed = null;
    let moved = null;
    canvas.addEventListener('pointerdown', (event) => {
      if (event.button !== 0) return;
      pressed = this.timeAt(event);
      const { range } = this.page.selection;
      // Within the range it is moved, elsewhere a new one begins.
      moved = range && pressed > range[0] && pressed < range[1] ? [...range] : null;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener('pointermove', (event) => {
      if (pressed === null) return;
      const at = this.timeAt(event);
      this.dragging = moved ? this.movedBy(moved, at - pressed) : [Math.min(pressed, at), Math.max(pressed, at)];
      this.redraw();
    });
    canvas.addEventListener('pointerup', () => {
      const range = this.dragging;
      pressed = null;
      this.dragging = null;
      if (range && range[1] > range[0]) this.page.setRange(range);
      this.redraw();
    });
    canvas.addEventListener('pointercancel', () => {
      pressed = null;
      this.dragging = null;
      this.redraw();
    });
    canvas.addEventListener('dblclick', () => this.page.setRange(null));
    canvas.addEventListener('keydown', (event) => {
      const [from, to] = this.page.shownRange();
      const step = { ArrowRight: (to - from) / 5, ArrowLeft: (from - to) / 5 }[event.key];
      if (step) this.page.setRange(this.movedBy([from, to], step));
      else if (event.key === 'ArrowUp') this.page.setRange([from + (to - from) / 4, to - (to - from) / 4]);
      else if (event.key === 'ArrowDown') this.page.setRange([from - (to - from) / 2, to + (to - from) / 2]);
      else return;
      event.preventDefault();
    });
    [this.from, this.to].forEach((input, side) => {
      input.addEventListener('change', () => this.typed(input, side));
    });
    byId('range-all').addEventListener('click', () => this.page.setRange(null));
  }

  // One end was typed; the other stays exactly what it is.
  typed(input, side) {
    const time = Number(input.value.replace(',', '.')) / (this.page.recording.head.unit_us / 1e6);
    const range = [...this.page.shownRange()];
    range[side] = time;
    if (input.value.trim() !== '' && Number.isFinite(time) && range[1] > range[0]) this.page.setRange(range);
    else this.showRange();
  }

  // The same length elsewhere, within the recording.
  movedBy([from, to], by) {
    const [first, last] = this.page.wholeRange();
    const shift = Math.max(first - from, Math.min(last - to, by));
    return [from + shift, to + shift];
  }
}
