// The time line: what ran when. A lane for each thread, the outermost frames on top.

const AXIS = 20;
const LANE_HEAD = 20;
const LANE_GAP = 8;

class TimeView {
  constructor(page) {
    this.page = page;
    this.name = 'time';
    this.folded = new Set();
    this.rows = new Map();
    this.dragging = null;
    this.lanes = [];
  }

  renew() {
    const { recording, selection, tree } = this.page;
    this.lanes = [];
    let top = AXIS;
    recording.threads.forEach((runs, thread) => {
      if (runs.length === 0 || (selection.threads && !selection.threads.has(thread))) return;
      runs.depth ??= runs.leaf.reduce((most, leaf) => Math.max(most, tree.depth[tree.leafNode[leaf]]), 0);
      const levels = this.folded.has(thread) ? 0 : runs.depth;
      this.lanes.push({ thread, runs, top, levels });
      top += LANE_HEAD + levels * ROW + LANE_GAP;
    });
    this.bottom = top;
  }

  contentHeight() {
    return this.bottom;
  }

  draw(boxes, width, height, top) {
    this.rows = new Map();
    this.drawn = 0;
    const [from, to] = this.page.shownRange();
    for (const lane of this.lanes) {
      const y = lane.top - top;
      if (y > height || y + LANE_HEAD + lane.levels * ROW < 0) continue;
      this.drawHead(boxes, lane, y, width);
      if (lane.levels > 0) this.drawLane(boxes, lane, y + LANE_HEAD, width, height, from, to);
    }
    this.drawAxis(boxes, width, height, from, to);
    if (this.dragging) {
      const [a, b] = this.dragging;
      boxes.context.globalAlpha = 0.25;
      boxes.context.fillStyle = boxes.css.focus;
      boxes.context.fillRect(Math.min(a, b), 0, Math.abs(b - a), height);
      boxes.context.globalAlpha = 1;
    }
  }

  drawHead(boxes, lane, y, width) {
    const { context, css } = boxes;
    context.fillStyle = css.lane;
    context.fillRect(0, y, width, LANE_HEAD - 2);
    context.fillStyle = css.ink;
    const sign = this.folded.has(lane.thread) ? '▸' : '▾';
    const text = `${sign} ${this.page.threadName(lane.thread)}`;
    context.fillText(boxes.cut(text, width - 2 * PADDING), PADDING, y + LANE_HEAD / 2 - 1);
  }

  drawLane(boxes, lane, y, width, height, from, to) {
    const scale = this.page.stage.scale;
    const columns = Math.max(1, Math.round(width * scale));
    const { tree } = this.page;
    const at = this.columnNodes(lane.runs, columns, from, to);
    const firstRow = Math.max(0, Math.floor((AXIS - y) / ROW));
    const lastRow = Math.min(lane.levels - 1, Math.floor((height - y) / ROW));
    for (let column = 0; column < columns; column++) {
      while (tree.depth[at[column]] > lastRow + 1) at[column] = tree.parent[at[column]];
    }
    const perColumn = (to - from) / columns;
    for (let row = lastRow; row >= firstRow; row--) {
      const drawn = [];
      for (let column = 0; column < columns;) {
        const node = at[column];
        const start = column;
        while (column < columns && at[column] === node) column++;
        if (tree.depth[node] !== row + 1) continue;
        at.fill(tree.parent[node], start, column);
        const x = start / scale;
        const boxWidth = (column - start) / scale;
        const { name, shortPlace } = this.page.model.functions[tree.fn[node]];
        boxes.draw(x, y + row * ROW, boxWidth, tree.fn[node], name, shortPlace, false);
        const times = [from + start * perColumn, from + column * perColumn];
        drawn.push({ node, x, width: boxWidth, times, thread: lane.thread });
      }
      this.drawn += drawn.length;
      this.rows.set(`${lane.thread}:${row}`, drawn);
    }
  }

  // The innermost node of each column of pixels: of what has most of its time. 0: nothing.
  columnNodes(runs, columns, from, to) {
    const { tree, selection, recording, model } = this.page;
    const isWanted = wantedLeaves(recording, model, tree, selection.waits);
    const nodes = new Int32Array(columns);
    const most = new Float64Array(columns);
    const scale = columns / (to - from);
    for (let i = firstEndingAfter(runs, from); i < runs.length && runs.start[i] < to; i++) {
      const leaf = runs.leaf[i];
      if (isWanted && !isWanted[leaf]) continue;
      const start = Math.max(0, (runs.start[i] - from) * scale);
      const next = i + 1 < runs.length ? Math.max(runs.start[i + 1], runs.start[i]) : Infinity;
      const end = Math.min(columns, (Math.min(runs.end[i], next) - from) * scale);
      for (let column = Math.floor(start); column < end; column++) {
        const time = Math.min(end, column + 1) - Math.max(start, column);
        if (time > most[column]) {
          most[column] = time;
          nodes[column] = tree.leafNode[leaf];
        }
      }
    }
    return nodes;
  }

  drawAxis(boxes, width, height, from, to) {
    const { context, css } = boxes;
    const unit = this.page.recording.head.unit_us / 1e6;
    context.fillStyle = css.panel;
    context.fillRect(0, 0, width, AXIS - 1);
    context.fillStyle = css.faint;
    for (const { at, text } of ticks(from * unit, to * unit, width)) {
      context.fillRect(at, AXIS - 6, 1, 5);
      if (at + boxes.width(text) + 6 < width) context.fillText(text, at + 4, AXIS / 2 - 1);
    }
    context.fillStyle = css.line;
    context.fillRect(0, AXIS - 1, width, 1);
  }

  hit(x, y) {
    const lane = this.lanes.findLast((it) => it.top <= y);
    if (!lane) return undefined;
    const inLane = y - lane.top - LANE_HEAD;
    if (inLane < 0) return { head: lane.thread };
    const boxes = this.rows.get(`${lane.thread}:${Math.floor(inLane / ROW)}`) ?? [];
    return boxes.find((box) => x >= box.x && x < box.x + box.width);
  }

  click(hit) {
    if (!hit) return;
    if (hit.head === undefined) {
      this.page.select(this.page.tree.fn[hit.node]);
      return;
    }
    if (!this.folded.delete(hit.head)) this.folded.add(hit.head);
    this.renew();
    this.page.stage.contentChanged();
  }

  timeAt(x) {
    const [from, to] = this.page.shownRange();
    return from + x / this.page.stage.width * (to - from);
  }

  drag(pressed, at) {
    this.dragging = pressed && [pressed.x, Math.max(0, Math.min(this.page.stage.width, at.x))];
  }

  dragged(pressed, at) {
    this.drag(pressed, at);
    const [a, b] = this.dragging;
    this.dragging = null;
    this.page.setRange([this.timeAt(Math.min(a, b)), this.timeAt(Math.max(a, b))]);
  }

  wheel(event, at) {
    const [from, to] = this.page.shownRange();
    const length = to - from;
    if (event.ctrlKey) {
      const factor = 1.002 ** Math.max(-300, Math.min(300, event.deltaY));
      const middle = this.timeAt(at.x);
      this.page.setRange([middle - (middle - from) * factor, middle + (to - middle) * factor]);
      return true;
    }
    const sideways = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (!sideways) return false;
    this.pan(length * sideways / 1000);
    return true;
  }

  pan(by) {
    const [from, to] = this.page.shownRange();
    const [first, last] = this.page.wholeRange();
    const shift = Math.max(first - from, Math.min(last - to, by));
    this.page.setRange([from + shift, to + shift]);
  }

  key(event) {
    const [from, to] = this.page.shownRange();
    const length = to - from;
    const keys = {
      ArrowRight: () => this.pan(length / 5),
      ArrowLeft: () => this.pan(-length / 5),
      ArrowUp: () => this.page.setRange([from + length / 4, to - length / 4]),
      ArrowDown: () => this.page.setRange([from - length / 2, to + length / 2]),
    };
    keys[event.key]?.();
    return event.key in keys;
  }

  escape() {
    return false;
  }

  crumbs() {
    return [];
  }

  tooltip(hit) {
    if (hit.head !== undefined) return { fn: -1, text: this.page.threadName(hit.head), rows: [] };
    const unit = this.page.recording.head.unit_us / 1000;
    const [from, to] = hit.times.map((time) => time * unit);
    return {
      fn: this.page.tree.fn[hit.node],
      rows: [],
      text: `${formatMs(to - from)} from ${formatSeconds(from / 1000, (to - from) / 1000)} s on`
        + ` · ${this.page.threadName(hit.thread)}`,
    };
  }

  // The function is lit where it ran; that is all there is to be shown.
  show() {
    this.page.stage.redraw();
  }
}

// The number of the first run that ends after a moment.
function firstEndingAfter(runs, time) {
  let from = 0;
  let to = runs.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (runs.end[middle] > time) to = middle;
    else from = middle + 1;
  }
  return from;
}

// Where an axis from one second to another has which labels.
function ticks(from, to, width) {
  const rough = (to - from) / Math.max(2, width / 110);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((it) => it >= rough) ?? power;
  const found = [];
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i++) {
    found.push({
      at: Math.round((i * step - from) / (to - from) * width),
      text: `${(i * step).toFixed(digits)} s`,
    });
  }
  return found;
}
