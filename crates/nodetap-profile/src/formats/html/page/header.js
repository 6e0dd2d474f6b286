// What was recorded, and the legend, which says where the time goes.

function showFacts(recording) {
  const { head } = recording;
  const [process] = head.processes;
  const isOne = head.processes.length === 1;
  const title = isOne ? shortCommand(process)
    : head.processes.length > 0 ? `${head.processes.length} processes` : 'no process';
  const heading = byId('title');
  heading.replaceChildren(make('bdi', { text: title }));
  heading.title = head.processes.map((it) => `${it.pid}: ${it.command}`).join('\n');
  document.title = `${title} – nodetap`;
  const facts = [];
  if (isOne) {
    facts.push(`pid ${process.pid}`);
    if (process.node) facts.push(`Node.js ${process.node}`);
    if (process.v8) facts.push(`V8 ${process.v8}`);
  }
  facts.push(`${formatSamples(head.samples)} in ${(head.duration_us / 1e6).toFixed(1)} s at ${formatCount(head.rate_hz)} Hz (${head.sampler})`);
  facts.push(head.start.replace('T', ' ').replace(/(:\d\d)(\.\d+)?Z$/, '$1 UTC'));
  if (head.step_us > 0) facts.push(`time line in steps of ${formatMs(head.step_us / 1000)}`);
  const element = byId('facts');
  element.replaceChildren(...facts.map((fact) => make('span', {}, [make('bdi', { text: fact })])));
  element.append(...qualityOf(head));
}

// The command without the folder of its program.
function shortCommand({ pid, command }) {
  return command.replace(/^\/\S*\/(?=[^\s/]+( |$))/, '') || `pid ${pid}`;
}

// What was not kept, as the closing line of a recording says it.
function qualityOf(head) {
  const hints = {
    lost: 'the buffer was full',
    truncated: 'deeper than --max-depth',
    incomplete: 'the walk did not reach the thread\'s first frame',
  };
  const parts = Object.entries(hints).filter(([name]) => head[name] > 0).map(([name, hint]) => make('span', {
    class: 'warning',
    title: hint,
    text: `${formatCount(head[name])} ${name} (${formatShare(head[name], head.samples)})`,
  }));
  return parts.length > 0 ? parts : [make('span', { text: 'nothing lost, truncated or incomplete' })];
}

// So many dependencies have an entry of their own.
const OWN_ENTRIES = 6;

class Legend {
  constructor(page) {
    this.page = page;
    const { model, totals } = page;
    this.items = makeItems(model, totals);
    this.itemOfGroup = new Int32Array(model.groups.length);
    this.items.forEach((item, number) => {
      for (const group of item.groups) this.itemOfGroup[group] = number;
    });
    this.recolor();
    this.build();
  }

  recolor() {
    for (const item of this.items) item.color = this.page.colors.ofGroup(item.groups[0]);
    this.items.forEach((item) => {
      if (!item.square) return;
      item.square.style.background = item.color;
      item.bar.style.background = item.color;
    });
  }

  build() {
    for (const item of this.items) {
      item.square = swatch(item.color);
      item.share = make('span', { class: 'share' });
      item.bar = make('span');
      item.bar.style.background = item.color;
      item.button = make('button', { type: 'button', 'aria-pressed': false, onclick: () => {
        this.page.highlightGroups(new Set(item.groups));
      } }, [item.square, make('bdi', { text: item.name }), item.share]);
    }
    byId('legend').replaceChildren(...this.items.map((item) => make('li', {}, [item.button])));
    byId('shares').replaceChildren(...this.items.map((item) => item.bar));
  }

  // Shares of what is shown now.
  render() {
    const { totals, highlight } = this.page;
    for (const item of this.items) {
      const self = item.groups.reduce((sum, group) => sum + totals.groupSelf[group], 0);
      item.share.textContent = formatShare(self, totals.all);
      item.button.dataset.self = self;
      item.button.title = `${item.name}: ${this.page.amount(self)}. Click to find it.`;
      item.bar.style.flexGrow = self;
      item.bar.hidden = self === 0;
      const isChosen = highlight !== null && item.groups.every((group) => highlight.has(group));
      item.button.setAttribute('aria-pressed', isChosen);
    }
  }
}

// One for each origin, and for each of the dependencies with most samples; most first.
function makeItems(model, totals) {
  const items = new Map();
  const groups = model.groups.map((_, group) => group).filter((group) => totals.groupTotal[group] > 0);
  groups.sort((a, b) => totals.groupSelf[b] - totals.groupSelf[a] || totals.groupTotal[b] - totals.groupTotal[a] || a - b);
  let dependencies = 0;
  for (const group of groups) {
    const { origin, label, originName } = model.groups[group];
    const isDependency = origin === ORIGIN_DEPENDENCY;
    const hasOwn = isDependency && dependencies++ < OWN_ENTRIES;
    const key = hasOwn ? `package ${group}` : `origin ${origin}`;
    const name = hasOwn ? label : isDependency ? 'other dependencies' : originName;
    const item = items.get(key) ?? { name, groups: [], self: 0, origin };
    item.groups.push(group);
    item.self += totals.groupSelf[group];
    items.set(key, item);
  }
  // Groups without samples have a place too, where none is looked for.
  const sorted = [...items.values()].sort((a, b) => b.self - a.self);
  // What waits stands last: on top of what ran.
  const last = (item) => (item.origin === ORIGIN_WAITING ? 1 : 0);
  return sorted.sort((a, b) => last(a) - last(b));
}

// The threads to choose from: all, those of a process, each.
function fillThreads(page) {
  const { recording } = page;
  const { processes, threads } = recording.head;
  const samples = recording.threads.map((runs) => runs.count.reduce((a, b) => a + b, 0));
  const used = threads.map((_, i) => i).filter((i) => samples[i] > 0)
    .sort((a, b) => samples[b] - samples[a]);
  const select = byId('threads');
  const option = (value, text, tid) => make('option', { value, text, 'data-tid': tid });
  select.replaceChildren(option('all', `all ${used.length} together`));
  const pids = new Set(used.map((i) => threads[i].pid));
  for (const pid of pids) {
    const own = used.filter((i) => threads[i].pid === pid);
    const options = own.map((i) => option(`thread ${i}`, `${page.threadName(i)}: ${formatShare(samples[i], recording.head.samples)}`, threads[i].tid));
    if (pids.size === 1) {
      select.append(...options);
    } else {
      const process = processes.find((it) => it.pid === pid);
      const name = `${pid} ${process?.command ?? ''}`.slice(0, 60);
      const all = option(`process ${pid}`, `all of ${pid}`);
      select.append(make('optgroup', { label: name }, [all, ...options]));
    }
  }
  byId('thread-choice').hidden = used.length < 2;
}

// Which threads a choice stands for; null: all.
function chosenThreads(recording, value) {
  const [what, number] = value.split(' ');
  if (what === 'thread') return new Set([Number(number)]);
  if (what !== 'process') return null;
  const { threads } = recording.head;
  return new Set(threads.map((_, i) => i).filter((i) => threads[i].pid === Number(number)));
}
