// The page: what is chosen, and what is drawn anew when that changes.

class Page {
  constructor(recording) {
    this.recording = recording;
    this.css = readCss();
    this.selection = { threads: null, range: null, waits: 'all' };
    this.highlight = null;
    this.selected = -1;
    this.model = buildFunctions(recording);
    this.tree = buildTree(recording, this.model);
    this.totals = countSamples(recording, this.model, this.tree, this.selection);
    this.colors = new Colors(this.model, this.totals.groupTotal);
    this.colors.setTheme(isDark());
    this.where = new Where(recording, this.tree);
    this.boxes = new Boxes(this.model, this.colors);
    this.legend = new Legend(this);
    this.tooltip = new Tooltip(this);
    this.details = new Details(this);
    this.tables = new Tables(this);
    this.search = new Search(this);
    this.views = {
      flame: new GraphView(this, 'flame', () => new CallTree(this.tree, this.totals)),
      inverted: new GraphView(this, 'inverted', () => new InvertedTree(this.tree, this.totals)),
      time: new TimeView(this),
    };
    this.viewTabs = [...document.querySelectorAll('#views [role=tab]')];
    this.selectTop();
    this.stage = new Stage(this);
    this.overview = new Overview(this);
    this.renewAll = oncePerFrame(() => this.renew());
    this.listen();
    showFacts(recording);
    fillThreads(this);
    byId('overview').hidden = !recording.head.has_times;
    byId('waits-choice').hidden = !this.model.groups.some((it) => it.origin === ORIGIN_WAITING);
    this.viewTabs.find((tab) => tab.dataset.view === 'time').disabled = !recording.head.has_times;
    this.stale = new Set(Object.keys(this.views));
    this.showView('flame');
    this.renewParts();
  }

  // The function that ran most is what is looked for first.
  selectTop() {
    const { functionSelf } = this.totals;
    let top = -1;
    functionSelf.forEach((self, fn) => {
      const { origin } = this.model.groups[this.model.functions[fn].group];
      if (origin !== ORIGIN_WAITING && self > (top < 0 ? 0 : functionSelf[top])) top = fn;
    });
    this.selected = top;
  }

  // Other samples are shown now.
  renew() {
    this.totals = countSamples(this.recording, this.model, this.tree, this.selection);
    this.stale = new Set(Object.keys(this.views));
    this.freshen();
    this.renewParts();
    this.stage.contentChanged();
  }

  freshen() {
    if (this.stale.delete(this.view.name)) this.view.renew();
  }

  renewParts() {
    this.tooltip.hide();
    this.legend.render();
    this.tables.render();
    this.details.render();
    this.overview.showRange();
    this.highlightChanged();
    this.showCrumbs();
    const { all } = this.totals;
    document.documentElement.dataset.samples = all;
    byId('message').hidden = all > 0;
    byId('message').textContent = this.recording.head.samples > 0
      ? 'No samples in this part.'
      : 'No samples: nothing ran while this was recorded. With --wall nodetap shows where threads wait.';
  }

  showView(name) {
    if (this.viewTabs.find((tab) => tab.dataset.view === name).disabled) return;
    this.view = this.views[name];
    this.freshen();
    chooseTab(this.viewTabs, (tab) => tab.dataset.view === name);
    this.tooltip.hide();
    this.stage.element.dataset.view = name;
    this.stage.element.scrollTop = 0;
    this.stage.element.setAttribute('aria-label', this.viewTabs.find((tab) => tab.dataset.view === name).textContent);
    this.showCrumbs();
    this.stage.contentChanged();
  }

  // The function that the details are about.
  select(fn) {
    this.selected = fn;
    this.boxes.selected = fn;
    this.details.render();
    this.tables.markSelected();
    this.stage.redraw();
  }

  showFunction(fn) {
    this.view.show(fn);
  }

  highlightGroups(groups) {
    const isSame = this.highlight && this.highlight.size === groups.size
      && [...groups].every((group) => this.highlight.has(group));
    this.highlight = isSame ? null : groups;
    this.highlightChanged();
  }

  highlightChanged() {
    this.boxes.lit = this.search.lit();
    this.search.render(this.boxes.lit);
    this.legend.render();
    this.stage.redraw();
  }

  // All of the time, in units: from the recording's start, unless samples begin late, as
  // in a part of a recording.
  wholeRange() {
    if (!this.whole) {
      const { head, threads } = this.recording;
      const runs = threads.filter((it) => it.length > 0);
      const start = runs.length > 0 ? Math.min(...runs.map((it) => it.start[0])) : 0;
      const end = runs.reduce((last, it) => it.end.reduce((a, b) => Math.max(a, b), last), 1);
      const isLate = start > (end - start);
      this.whole = isLate ? [start, end] : [0, Math.max(end, Math.ceil(head.duration_us / head.unit_us))];
    }
    return this.whole;
  }

  shownRange() {
    return this.selection.range ?? this.wholeRange();
  }

  // Shows a part of the time only; null: all of it.
  setRange(range) {
    const [first, last] = this.wholeRange();
    if (range) {
      let [from, to] = range.map((time) => Math.max(first, Math.min(last, time)));
      const shortest = Math.min(2, last - first);
      if (to - from < shortest) {
        from = Math.min(from, last - shortest);
        to = from + shortest;
      }
      range = from <= first && to >= last ? null : [from, to];
    }
    this.selection.range = range;
    this.renewAll();
  }

  showCrumbs() {
    const crumbs = this.view.crumbs();
    const button = ({ text, go }) => make('button', { type: 'button', class: 'link', onclick: go }, [make('bdi', { text })]);
    // The middle of a long way says least.
    const buttons = crumbs.length <= 7 ? crumbs.map(button)
      : [...crumbs.slice(0, 2).map(button), make('span', { text: '…' }), ...crumbs.slice(-4).map(button)];
    if (crumbs.length > 0) buttons.unshift(button({ text: 'all', go: () => this.view.zoomTo(0) }));
    byId('crumbs').replaceChildren(...buttons);
    this.stage.element.dataset.depth = crumbs.length;
  }

  amount(count) {
    return `${formatSamples(count)}, ${formatMs(count * this.msPerSample())}`;
  }

  shortAmount(count) {
    return `${formatCount(count)} · ${formatMs(count * this.msPerSample())}`;
  }

  msPerSample() {
    return 1000 / Math.max(1, this.recording.head.rate_hz);
  }

  threadName(thread) {
    const { threads, processes } = this.recording.head;
    const { pid, tid, name } = threads[thread];
    const role = pid === tid ? ', main thread' : '';
    const process = processes.length > 1 ? `, pid ${pid}` : '';
    return `${name || 'thread'} (${tid}${role}${process})`;
  }

  describeFunction(fn) {
    const { name, place, group } = this.model.functions[fn];
    return [name, place, this.model.groups[group].label].filter((it) => it !== '');
  }

  announce(text) {
    byId('current').textContent = text;
  }

  isStageFocused() {
    return document.activeElement === this.stage.element;
  }

  themeChanged() {
    this.css = readCss();
    this.colors.setTheme(isDark());
    this.legend.recolor();
    this.tables.render();
    this.details.render();
    this.overview.redraw();
    this.stage.redraw();
  }

  listen() {
    byId('threads').addEventListener('change', (event) => {
      this.selection.threads = chosenThreads(this.recording, event.target.value);
      this.overview.renew();
      this.renewAll();
    });
    byId('waits').addEventListener('change', (event) => {
      this.selection.waits = event.target.value;
      this.overview.renew();
      this.renewAll();
    });
    for (const tab of this.viewTabs) tab.addEventListener('click', () => this.showView(tab.dataset.view));
    arrowsChooseTab(byId('views'));
    byId('theme').addEventListener('click', toggleTheme);
    byId('help-button').addEventListener('click', () => byId('help').showModal());
    document.addEventListener('theme', () => this.themeChanged());
    document.addEventListener('keydown', (event) => this.key(event));
    this.listenToPrinter();
  }

  key(event) {
    const isTyping = event.target.matches?.('input, select') ?? false;
    if (event.key === 'Escape' && !byId('help').open) {
      this.escape(event.target);
      return;
    }
    if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = {
      '/': () => byId('search').select(),
      f: () => this.showView('flame'),
      i: () => this.showView('inverted'),
      t: () => this.showView('time'),
      r: () => this.setRange(null),
      d: toggleTheme,
      '?': () => byId('help').showModal(),
    };
    if (!keys[event.key] || byId('help').open) return;
    event.preventDefault();
    keys[event.key]();
  }

  // One step back to the whole picture.
  escape(target) {
    if (target === byId('filter') && target.value !== '') {
      target.value = '';
      this.tables.render();
    } else if (!this.search.isEmpty()) {
      this.search.clear();
    } else if (this.highlight) {
      this.highlightGroups(this.highlight);
    } else if (!this.view.escape() && this.selection.range) {
      this.setRange(null);
    }
  }

  // On paper things are light.
  listenToPrinter() {
    let before = null;
    addEventListener('beforeprint', () => {
      before = document.documentElement.dataset.theme;
      document.documentElement.dataset.theme = 'light';
      this.themeChanged();
      this.stage.draw();
      this.overview.draw();
    });
    addEventListener('afterprint', () => {
      document.documentElement.dataset.theme = before;
      this.themeChanged();
    });
  }
}

function isDark() {
  return document.documentElement.dataset.theme === 'dark';
}

function toggleTheme() {
  const theme = isDark() ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem('nodetap-theme', theme);
  } catch {
    // Then it is forgotten.
  }
  document.dispatchEvent(new Event('theme'));
}

async function start() {
  const root = document.documentElement;
  try {
    const element = byId('recording');
    const recording = await readRecording(element.textContent);
    element.remove();
    new Page(recording);
    root.dataset.state = 'ready';
  } catch (error) {
    root.dataset.state = 'failed';
    byId('message').hidden = false;
    byId('message').textContent = error.message;
    console.error(error);
  }
}

start();
