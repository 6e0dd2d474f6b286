// How many samples there are of what, in the threads and the time that are shown.

// `selection`: `threads` (numbers, null: all), `range` (from, to in units of time, null:
// all), `waits` (`all`, `busy`: all but idle, `running`, `waiting`).
function countSamples(recording, model, tree, selection) {
  const leafCounts = countLeaves(recording, model, tree, selection);
  const { nodes, parent, fn } = tree;
  const self = new Float64Array(nodes);
  for (let leaf = 0; leaf < leafCounts.length; leaf++) self[tree.leafNode[leaf]] += leafCounts[leaf];
  const total = self.slice();
  const height = new Int32Array(nodes);
  for (let node = nodes - 1; node > 0; node--) {
    if (total[node] === 0) continue;
    const above = parent[node];
    total[above] += total[node];
    if (height[above] <= height[node]) height[above] = height[node] + 1;
  }
  const functionSelf = new Float64Array(model.functions.length);
  const functionTotal = new Float64Array(model.functions.length);
  const groupSelf = new Float64Array(model.groups.length);
  const groupTotal = new Float64Array(model.groups.length);
  const groupCaused = new Float64Array(model.groups.length);
  for (let node = 1; node < nodes; node++) {
    if (total[node] === 0) continue;
    const group = model.groupOf[fn[node]];
    functionSelf[fn[node]] += self[node];
    groupSelf[group] += self[node];
    groupCaused[tree.cause[node] < 0 ? group : tree.cause[node]] += self[node];
    if (tree.isFirstOfFunction[node]) functionTotal[fn[node]] += total[node];
    if (tree.isFirstOfGroup[node]) groupTotal[group] += total[node];
  }
  return {
    all: total[0],
    leafCounts, self, total, height, functionSelf, functionTotal,
    groupSelf, groupTotal, groupCaused,
  };
}

function countLeaves(recording, model, tree, { threads, range, waits }) {
  const counts = new Float64Array(recording.leaves.length);
  recording.threads.forEach((runs, thread) => {
    if (threads && !threads.has(thread)) return;
    addRuns(counts, runs, range);
  });
  const isWanted = wantedLeaves(recording, model, tree, waits);
  if (isWanted) {
    for (let leaf = 0; leaf < counts.length; leaf++) {
      if (!isWanted[leaf]) counts[leaf] = 0;
    }
  }
  return counts;
}

function addRuns(counts, runs, range) {
  const { length, start, end, count, leaf } = runs;
  if (!range) {
    for (let i = 0; i < length; i++) counts[leaf[i]] += count[i];
    return;
  }
  for (let i = 0; i < length; i++) {
    if (start[i] < range[1] && end[i] > range[0]) {
      counts[leaf[i]] += countWithin(start[i], end[i], count[i], range);
    }
  }
}

// How many of a run's samples were taken in a range: they are evenly spaced, the first at
// its start.
function countWithin(start, end, count, [from, to]) {
  if (start >= from && end <= to) return count;
  const step = (end - start) / count || 1;
  const before = (time) => Math.min(count, Math.max(0, Math.ceil((time - start) / step)));
  return before(to) - before(from);
}

// Which leaves are shown, as bytes; null: all.
function wantedLeaves(recording, model, tree, waits) {
  if (waits === 'all') return null;
  tree.states ??= recording.leaves.map((_, leaf) => stateOf(model, tree, leaf));
  const isWanted = {
    busy: (state) => state !== STATE_IDLE,
    running: (state) => state === STATE_RUNNING,
    waiting: (state) => state !== STATE_RUNNING,
  }[waits];
  return Uint8Array.from(tree.states, (state) => (isWanted(state) ? 1 : 0));
}

const STATE_RUNNING = 0;
const STATE_WAITING = 1;
const STATE_IDLE = 2;

// What a leaf says that its thread did. With the kernel's frames that stands below them.
function stateOf(model, tree, leaf) {
  let node = tree.leafNode[leaf];
  while (node > 0 && model.functions[tree.fn[node]].kind === KIND_KERNEL) node = tree.parent[node];
  if (node === 0) return STATE_RUNNING;
  const { name, group } = model.functions[tree.fn[node]];
  if (model.groups[group].origin !== ORIGIN_WAITING) return STATE_RUNNING;
  return name === '(idle)' ? STATE_IDLE : STATE_WAITING;
}

// The samples that have a function of a set on their stacks.
function countMatches(tree, totals, isMatch) {
  let samples = 0;
  for (let node = 1; node < tree.nodes;) {
    if (totals.total[node] === 0) {
      node = tree.end[node];
    } else if (isMatch[tree.fn[node]]) {
      samples += totals.total[node];
      node = tree.end[node];
    } else {
      node++;
    }
  }
  return samples;
}

// In how many samples which function called another, at least once: for one function its
// callers, and what it called. Recursion counts a sample once.
function countCalls(tree, totals, functions, wanted) {
  const { nodes, fn, end, parent } = tree;
  const callers = new Map();
  const callees = new Map();
  const openCallers = new Uint32Array(functions);
  const openCallees = new Uint32Array(functions);
  const open = [];
  const add = (counts, other, count) => counts.set(other, (counts.get(other) ?? 0) + count);
  const leave = (node) => {
    const above = fn[parent[node]];
    if (fn[node] === wanted && above >= 0) openCallers[above]--;
    if (above === wanted) openCallees[fn[node]]--;
  };
  for (let node = 1; node < nodes;) {
    while (open.length > 0 && end[open[open.length - 1]] <= node) leave(open.pop());
    const total = totals.total[node];
    if (total === 0) {
      node = end[node];
      continue;
    }
    const above = fn[parent[node]];
    if (fn[node] === wanted) {
      if (above < 0) add(callers, -1, total);
      else if (openCallers[above]++ === 0) add(callers, above, total);
    }
    if (above === wanted && openCallees[fn[node]]++ === 0) add(callees, fn[node], total);
    if (fn[node] === wanted || above === wanted) open.push(node);
    node++;
  }
  return { callers, callees };
}
