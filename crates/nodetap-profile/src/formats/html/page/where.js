// Where in its functions a program was, and how they ran: lines and tiers. Frames know it,
// which the tree joins by function.

class Where {
  constructor(recording, tree) {
    this.recording = recording;
    this.tree = tree;
    this.totals = null;
  }

  // For each node of the tree its stacks, made when first asked for.
  stacksOf(node) {
    if (!this.first) {
      const { nodes, nodeOfStack } = this.tree;
      this.first = new Uint32Array(nodes + 1);
      for (const at of nodeOfStack) this.first[at + 1]++;
      for (let i = 0; i < nodes; i++) this.first[i + 1] += this.first[i];
      const next = this.first.slice();
      this.stacks = new Uint32Array(nodeOfStack.length);
      nodeOfStack.forEach((at, stack) => {
        this.stacks[next[at]++] = stack;
      });
    }
    return this.stacks.subarray(this.first[node], this.first[node + 1]);
  }

  // How many samples each stack has, and those that it is the outer part of.
  stackTotals(totals) {
    if (this.totals !== totals) {
      this.totals = totals;
      const { callers, leaves } = this.recording;
      this.self = new Float64Array(callers.length);
      leaves.forEach((stack, leaf) => {
        this.self[stack] += totals.leafCounts[leaf];
      });
      this.total = this.self.slice();
      for (let stack = callers.length - 1; stack > 0; stack--) {
        this.total[callers[stack]] += this.total[stack];
      }
    }
    return this.total;
  }

  // The tiers of a node, most first: `optimized 80 %, interpreted 20 %; 30 % inlined`.
  tiersOfNode(node, totals) {
    const total = this.stackTotals(totals);
    const tiers = new Tiers(this.recording);
    for (const stack of this.stacksOf(node)) tiers.add(this.recording.tops[stack], total[stack]);
    return tiers.text();
  }

  // Lines and tiers of a function in all of its nodes.
  ofFunction(fn, totals) {
    const total = this.stackTotals(totals);
    const { frames, tops } = this.recording;
    const tiers = new Tiers(this.recording);
    const lines = new Map();
    for (let node = 1; node < this.tree.nodes; node++) {
      if (this.tree.fn[node] !== fn || totals.total[node] === 0) continue;
      for (const stack of this.stacksOf(node)) {
        if (total[stack] === 0) continue;
        const frame = tops[stack];
        const position = `${frames.line[frame]}:${frames.column[frame]}`;
        let line = lines.get(position);
        if (!line) {
          const source = this.recording.strings[frames.source[frame]];
          line = { line: frames.line[frame], column: frames.column[frame], self: 0, total: 0, source };
          lines.set(position, line);
        }
        line.self += this.self[stack];
        // Of recursion the outermost call.
        if (!this.tree.isFirstOfFunction[node]) continue;
        line.total += total[stack];
        tiers.add(frame, total[stack]);
      }
    }
    return { tiers: tiers.text(), lines: [...lines.values()].filter((it) => it.line > 0) };
  }
}

class Tiers {
  constructor(recording) {
    this.recording = recording;
    this.counts = new Map();
    this.inlined = 0;
    this.all = 0;
  }

  add(frame, count) {
    const how = this.recording.frames.how[frame];
    const tier = how >> 1;
    this.all += count;
    if (how & 1) this.inlined += count;
    if (tier > 0) this.counts.set(tier, (this.counts.get(tier) ?? 0) + count);
  }

  text() {
    const parts = [...this.counts].sort((a, b) => b[1] - a[1]).map(([tier, count]) => {
      const name = this.recording.head.tiers[tier - 1];
      return count === this.all ? name : `${name} ${formatShare(count, this.all)}`;
    });
    if (this.inlined > 0) {
      parts.push(this.inlined === this.all ? 'inlined' : `inlined ${formatShare(this.inlined, this.all)}`);
    }
    return parts.join(', ');
  }
}
