// The flame graph, and the same of the inverted tree: width is samples, the row below is
// what was called (inverted: who called).

// Narrower boxes are drawn as one.
const MIN_WIDTH = 0.5;

class GraphView {
  // `makeTree` gives the tree for the current totals.
  constructor(page, name, makeTree) {
    this.page = page;
    this.name = name;
    this.makeTree = makeTree;
    this.tree = null;
    this.zoom = 0;
    this.cursor = 0;
    this.rows = [];
  }

  // The totals are others now. Where one was zoomed to is found again by its functions.
  renew() {
    const zoom = this.tree ? this.functionsTo(this.zoom) : [];
    const cursor = this.tree ? this.functionsTo(this.cursor) : [];
    this.tree = this.makeTree();
    this.zoom = this.find(zoom);
    this.cursor = this.find(cursor);
  }

  functionsTo(node) {
    const fns = [];
    for (let at = node; at > 0; at = this.tree.parent(at)) fns.push(this.tree.fn(at));
    return fns.reverse();
  }

  // The node with these functions above it, or as many of them as there are.
  find(fns) {
    let node = 0;
    for (const fn of fns) {
      const next = this.tree.children(node).find((child) => this.tree.fn(child) === fn);
      if (next === undefined) break;
      node = next;
    }
    return node;
  }

  contentHeight() {
    return (this.tree.depth(this.zoom) + this.tree.height(this.zoom) + 1) * ROW + 4;
  }

  // Draws the rows that are seen.
  draw(boxes, width, height, top) {
    const { tree } = this;
    const firstRow = Math.floor(top / ROW);
    const lastRow = Math.floor((top + height) / ROW);
    this.rows = new Map();
    this.drawn = 0;
    const place = (node, row, x, boxWidth, isFaded) => {
      if (row < firstRow || row > lastRow) return;
      let boxesOfRow = this.rows.get(row);
      if (!boxesOfRow) this.rows.set(row, boxesOfRow = []);
      boxesOfRow.push({ node, x, width: boxWidth });
      const [name, where] = this.label(node);
      boxes.draw(x, row * ROW - top, boxWidth, tree.fn(node), name, where, isFaded);
      if (node === this.cursor && this.page.isStageFocused()) {
        boxes.drawCursor(x, row * ROW - top, boxWidth);
      }
      this.drawn++;
    };
    for (let node = this.zoom; node > 0;) {
      node = tree.parent(node);
      place(node, tree.depth(node), 0, width, true);
    }
    const scale = width / tree.total(this.zoom);
    const waiting = [[this.zoom, 0]];
    while (waiting.length > 0) {
      const [node, x] = waiting.pop();
      const row = tree.depth(node);
      place(node, row, x, tree.total(node) * scale, false);
      if (row >= lastRow) continue;
      let childX = x;
      let rest = 0;
      for (const child of tree.children(node)) {
        const childWidth = tree.total(child) * scale;
        if (childWidth >= MIN_WIDTH) waiting.push([child, childX]);
        else rest += childWidth;
        childX += childWidth;
      }
      if (rest > 0 && row + 1 >= firstRow) boxes.drawRest(childX - rest, (row + 1) * ROW - top, rest);
    }
  }

  label(node) {
    if (node === 0) return [`all: ${formatSamples(this.tree.total(0))}`, ''];
    const { name, shortPlace } = this.page.model.functions[this.tree.fn(node)];
    return [name, shortPlace];
  }

  // What is drawn at a place of the content.
  hit(x, y) {
    const boxes = this.rows.get(Math.floor(y / ROW)) ?? [];
    return boxes.find((box) => x >= box.x && x < box.x + box.width)?.node;
  }

  click(node) {
    if (node === undefined) return;
    this.cursor = node;
    this.zoomTo(node);
    if (node > 0) this.page.select(this.tree.fn(node));
  }

  zoomTo(node) {
    this.zoom = node;
    this.page.stage.contentChanged();
    this.page.stage.reveal(this.tree.depth(node) * ROW, ROW);
    this.page.showCrumbs();
  }

  // Back by one step; false: there is none.
  escape() {
    if (this.zoom === 0) return false;
    this.zoomTo(0);
    return true;
  }

  key(event) {
    const { tree } = this;
    const siblings = this.cursor > 0 ? tree.children(tree.parent(this.cursor)) : [0];
    const at = siblings.indexOf(this.cursor);
    const moves = {
      ArrowDown: () => tree.children(this.cursor)[0],
      ArrowUp: () => (this.cursor > 0 ? tree.parent(this.cursor) : undefined),
      ArrowRight: () => siblings[at + 1],
      ArrowLeft: () => siblings[at - 1],
      Home: () => 0,
    };
    if (moves[event.key]) {
      const next = moves[event.key]();
      if (next !== undefined) this.moveTo(next);
      return true;
    }
    if (event.key === 'Enter') {
      this.click(this.cursor);
      return true;
    }
    if (event.key === 'Backspace') {
      this.zoomTo(this.zoom > 0 ? tree.parent(this.zoom) : 0);
      return true;
    }
    return false;
  }

  moveTo(node) {
    this.cursor = node;
    // Out of what is zoomed to, as far as it takes.
    while (this.zoom > 0 && !this.isWithin(node, this.zoom)) this.zoom = this.tree.parent(this.zoom);
    this.page.stage.contentChanged();
    this.page.stage.reveal(this.tree.depth(node) * ROW, ROW);
    this.page.showCrumbs();
    this.page.announce(this.describe(node).join(', '));
  }

  isWithin(node, outer) {
    let at = node;
    while (this.tree.depth(at) > this.tree.depth(outer)) at = this.tree.parent(at);
    return at === outer;
  }

  // The nodes down to the one that is zoomed to, for the breadcrumbs.
  crumbs() {
    const nodes = [];
    for (let node = this.zoom; node > 0; node = this.tree.parent(node)) nodes.push(node);
    return nodes.reverse().map((node) => ({
      text: this.label(node)[0],
      go: () => this.zoomTo(node),
    }));
  }

  // What is known of a frame, line by line.
  describe(node) {
    const total = this.tree.total(node);
    const lines = [];
    if (node === 0) lines.push('all');
    else lines.push(...this.page.describeFunction(this.tree.fn(node)));
    lines.push(`${this.page.amount(total)}, ${formatShare(total, this.page.totals.all)}`);
    if (this.name === 'flame' && node > 0) {
      lines.push(`self ${this.page.amount(this.page.totals.self[node])}`);
    }
    return lines;
  }

  tooltip(node) {
    const total = this.tree.total(node);
    const { all, self } = this.page.totals;
    const rows = [[this.name === 'flame' || node === 0 ? 'total' : 'samples', total, all]];
    if (node > 0 && this.name === 'flame') rows.push(['self', self[node], all]);
    if (node > 0 && this.tree.depth(node) > 1) {
      const parent = this.tree.parent(node);
      rows.push([this.name === 'flame' ? 'of its caller' : 'of what it called', total, this.tree.total(parent)]);
    }
    const stackNode = this.name === 'flame' && node > 0 ? node : undefined;
    const text = node === 0 ? 'All that is shown' : '';
    return { fn: this.tree.fn(node), rows, stackNode, text };
  }

  // Shows the widest frame of a function.
  show(fn) {
    const widest = this.widestOf(fn);
    if (widest === undefined) return;
    this.cursor = widest;
    const isSeen = this.isWithin(widest, this.zoom)
      && this.tree.total(widest) / this.tree.total(this.zoom) * this.page.stage.width > 3;
    if (!isSeen) this.zoom = widest;
    this.page.stage.contentChanged();
    this.page.stage.reveal(this.tree.depth(widest) * ROW, ROW);
    this.page.showCrumbs();
  }

  widestOf(fn) {
    if (this.name === 'inverted') {
      return this.tree.children(0).find((child) => this.tree.fn(child) === fn);
    }
    const { tree, totals } = this.page;
    let widest;
    for (let node = 1; node < tree.nodes; node++) {
      if (tree.fn[node] === fn && totals.total[node] > (widest ? totals.total[widest] : 0)) widest = node;
    }
    return widest;
  }
}
