// The tree of calls: stacks joined by function, wherever in it each was executing.

// Nodes stand in the order in which one walks the tree: what a node called, and what those
// called, is behind it and before `end`. Node 0 is the root.
function buildTree(recording, model) {
  const joined = joinStacks(recording, model);
  const tree = inWalkingOrder(joined);
  markOutermost(tree, model);
  tree.leafNode = Int32Array.from(recording.leaves, (stack) =>
    stack === 0 ? joined.noFramesNode : joined.nodeOf[stack]);
  for (let i = 0; i < tree.leafNode.length; i++) {
    tree.leafNode[i] = tree.place[tree.leafNode[i]];
  }
  tree.nodeOfStack = joined.nodeOf.map((node) => tree.place[node]);
  return tree;
}

// Callers come before what they called, in stacks and in nodes.
function joinStacks({ callers, tops, leaves }, { ofFrame, noFrames }) {
  const stacks = callers.length;
  const nodeOf = new Int32Array(stacks);
  const parent = new Int32Array(stacks + 1);
  const fn = new Int32Array(stacks + 1).fill(-1);
  let nodes = 1;
  // A hash table of nodes by caller and function, never more than half full.
  const mask = 2 ** Math.ceil(Math.log2(2 * stacks + 2)) - 1;
  const table = new Int32Array(mask + 1);
  for (let stack = 1; stack < stacks; stack++) {
    const caller = nodeOf[callers[stack]];
    const called = ofFrame[tops[stack]];
    let slot = Math.imul(caller, 0x9e3779b1) ^ Math.imul(called, 0x85ebca6b);
    slot = (slot ^ (slot >>> 15)) & mask;
    let node = table[slot];
    while (node !== 0 && (parent[node] !== caller || fn[node] !== called)) {
      slot = (slot + 1) & mask;
      node = table[slot];
    }
    if (node === 0) {
      node = nodes++;
      table[slot] = node;
      parent[node] = caller;
      fn[node] = called;
    }
    nodeOf[stack] = node;
  }
  let noFramesNode = 0;
  if (leaves.includes(0)) {
    noFramesNode = nodes++;
    fn[noFramesNode] = noFrames;
  }
  return { nodes, parent, fn, nodeOf, noFramesNode };
}

function inWalkingOrder({ nodes, parent: oldParent, fn: oldFn }) {
  const size = new Int32Array(nodes).fill(1);
  for (let node = nodes - 1; node > 0; node--) size[oldParent[node]] += size[node];
  const place = new Int32Array(nodes);
  const free = new Int32Array(nodes);
  const parent = new Int32Array(nodes);
  const fn = new Int32Array(nodes);
  const depth = new Int32Array(nodes);
  const end = new Int32Array(nodes);
  free[0] = 1;
  end[0] = nodes;
  fn[0] = -1;
  for (let node = 1; node < nodes; node++) {
    const above = place[oldParent[node]];
    const here = free[oldParent[node]];
    free[oldParent[node]] += size[node];
    free[node] = here + 1;
    place[node] = here;
    parent[here] = above;
    fn[here] = oldFn[node];
    depth[here] = depth[above] + 1;
    end[here] = here + size[node];
  }
  return { nodes, parent, fn, depth, end, place };
}

// Which nodes are of a function, or of a group, that is not among their callers: what
// recursion must not count twice. And for whose code each runs: its own if it is of the
// program or a package, else that of the innermost such caller.
function markOutermost(tree, { functions, groups, groupOf }) {
  const { nodes, fn, end } = tree;
  const inFunction = new Uint32Array(functions.length);
  const inGroup = new Uint32Array(groups.length);
  tree.isFirstOfFunction = new Uint8Array(nodes);
  tree.isFirstOfGroup = new Uint8Array(nodes);
  tree.cause = new Int32Array(nodes).fill(-1);
  const open = [];
  for (let node = 1; node < nodes; node++) {
    while (open.length > 0 && end[open[open.length - 1]] <= node) {
      const left = fn[open.pop()];
      inFunction[left]--;
      inGroup[groupOf[left]]--;
    }
    const group = groupOf[fn[node]];
    tree.isFirstOfFunction[node] = inFunction[fn[node]]++ === 0 ? 1 : 0;
    tree.isFirstOfGroup[node] = inGroup[group]++ === 0 ? 1 : 0;
    const isCause = groups[group].origin <= ORIGIN_DEPENDENCY;
    tree.cause[node] = isCause ? group : tree.cause[tree.parent[node]];
    open.push(node);
  }
}
