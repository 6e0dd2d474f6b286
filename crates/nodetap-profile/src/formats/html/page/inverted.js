// The tree of calls from the other end: what ran stands at the top, and below each function
// who called it. Nodes are made when they are looked at, since most never are.

class InvertedTree {
  constructor(tree, totals) {
    this.tree = tree;
    this.fns = [-1];
    this.parents = [0];
    this.depths = [0];
    this.heights = [0];
    this.samples = [totals.all];
    this.called = [null];
    // For each node those of the tree where its callers are looked for, and with how many
    // samples each.
    const running = [];
    const samples = [];
    for (let node = 1; node < tree.nodes; node++) {
      if (totals.self[node] > 0) {
        running.push(node);
        samples.push(totals.self[node]);
        this.heights[0] = Math.max(this.heights[0], tree.depth[node]);
      }
    }
    this.sources = [{ nodes: running, samples }];
  }

  total(node) {
    return this.samples[node];
  }

  fn(node) {
    return this.fns[node];
  }

  parent(node) {
    return this.parents[node];
  }

  depth(node) {
    return this.depths[node];
  }

  // How many levels there are below a node.
  height(node) {
    return this.heights[node];
  }

  // Most samples first.
  children(node) {
    return this.called[node] ??= this.makeChildren(node);
  }

  makeChildren(node) {
    const { tree } = this;
    const { nodes, samples } = this.sources[node];
    const found = new Map();
    nodes.forEach((source, i) => {
      const at = node === 0 ? source : tree.parent[source];
      if (at === 0) return;
      const fn = tree.fn[at];
      let group = found.get(fn);
      if (!group) found.set(fn, group = new Map());
      group.set(at, (group.get(at) ?? 0) + samples[i]);
    });
    const children = [];
    for (const [fn, group] of found) {
      const made = this.fns.length;
      const sources = { nodes: [...group.keys()], samples: [...group.values()] };
      this.fns.push(fn);
      this.parents.push(node);
      this.depths.push(this.depths[node] + 1);
      this.samples.push(sources.samples.reduce((a, b) => a + b, 0));
      this.heights.push(sources.nodes.reduce((most, at) => Math.max(most, tree.depth[at]), 1) - 1);
      this.sources.push(sources);
      this.called.push(null);
      children.push(made);
    }
    return children.sort((a, b) => this.samples[b] - this.samples[a] || this.fns[a] - this.fns[b]);
  }
}

// The tree of calls itself, with what is asked of both.
class CallTree {
  constructor(tree, totals) {
    this.tree = tree;
    this.totals = totals;
    this.called = new Map();
  }

  total(node) {
    return this.totals.total[node];
  }

  fn(node) {
    return this.tree.fn[node];
  }

  parent(node) {
    return this.tree.parent[node];
  }

  depth(node) {
    return this.tree.depth[node];
  }

  height(node) {
    return this.totals.height[node];
  }

  children(node) {
    let children = this.called.get(node);
    if (!children) {
      const { end } = this.tree;
      const { total } = this.totals;
      children = [];
      for (let child = node + 1; child < end[node]; child = end[child]) {
        if (total[child] > 0) children.push(child);
      }
      children.sort((a, b) => total[b] - total[a] || a - b);
      this.called.set(node, children);
    }
    return children;
  }
}
