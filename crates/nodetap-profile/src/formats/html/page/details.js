// All about one function: how much, how it ran, on which lines, who called it, what it
// called.

const DETAIL_ROWS = 8;

class Details {
  constructor(page) {
    this.page = page;
    this.element = byId('details');
    this.whole = new Set();
    this.fn = -1;
  }

  render() {
    const { page } = this;
    const fn = page.selected;
    if (fn !== this.fn) {
      this.fn = fn;
      this.whole.clear();
      this.element.scrollTop = 0;
    }
    if (fn < 0) {
      this.element.replaceChildren(make('p', { class: 'hint', text: 'Choose a function to see its callers, what it called, and its lines.' }));
      return;
    }
    const { tiers, lines } = page.where.ofFunction(fn, page.totals);
    const { callers, callees } = countCalls(page.tree, page.totals, page.model.functions.length, fn);
    this.element.replaceChildren(
      ...this.heading(fn, tiers),
      this.calls('Callers', callers),
      this.calls('Callees', callees),
      ...(lines.length > 0 ? [this.lines(lines)] : []),
    );
    this.element.dataset.function = fn;
  }

  heading(fn, tiers) {
    const { page } = this;
    const it = page.model.functions[fn];
    const group = page.model.groups[it.group];
    const { all, functionSelf, functionTotal } = page.totals;
    const what = [swatch(page.colors.ofGroup(it.group)), make('bdi', { text: group.label })];
    if (group.label !== group.originName) what.push(` (${group.originName})`);
    if (tiers) what.push(` · ${tiers}`);
    const amount = (name, count) => make('div', { class: 'amount', 'data-amount': name, 'data-samples': count }, [
      make('b', { text: `${name} ${formatShare(count, all)}` }),
      make('span', { text: page.amount(count) }),
    ]);
    return [
      make('h2', {}, [make('bdi', { text: it.name })]),
      make('p', { class: 'place' }, [make('bdi', { text: it.place })]),
      make('p', { class: 'what' }, what),
      make('div', { class: 'amounts' }, [amount('self', functionSelf[fn]), amount('total', functionTotal[fn])]),
    ];
  }

  calls(title, counts) {
    const { page } = this;
    const rows = [...counts].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([fn, count]) => {
      if (fn < 0) return { count, cells: [make('span', { class: 'dim', text: 'nothing: it is the outermost' })] };
      const it = page.model.functions[fn];
      const link = make('button', { type: 'button', class: 'link', 'data-number': fn, onclick: () => {
        page.select(fn);
        page.showFunction(fn);
      } }, [swatch(page.colors.ofGroup(it.group)), make('bdi', { text: it.name })]);
      link.title = `${it.name}\n${it.place}`;
      return { count, cells: [link, make('span', { class: 'dim' }, [make('bdi', { text: it.shortPlace })])] };
    });
    return this.table(title, rows);
  }

  lines(lines) {
    const rows = joinLines(lines).map((it) => {
      const cells = [make('span', { class: 'line', text: linePlace(it) })];
      // What stands there, as the recording has it.
      if (it.source) cells.push(make('code', { class: 'source', title: it.source }, [make('bdi', { text: it.source })]));
      return { count: it.self, second: it.total, cells };
    });
    return this.table('Lines', rows, true);
  }

  table(title, rows, hasTotal = false) {
    const { all } = this.page.totals;
    const shown = this.whole.has(title) ? rows : rows.slice(0, DETAIL_ROWS);
    const number = (count, name) => {
      const cell = make('td', { class: 'number', text: formatShare(count, all), title: this.page.amount(count) });
      cell.dataset[name] = count;
      cell.style.setProperty('--share', `${all > 0 ? 100 * count / all : 0}%`);
      return cell;
    };
    const body = shown.map((row) => make('tr', {}, [
      number(row.count, hasTotal ? 'self' : 'samples'),
      ...(hasTotal ? [number(row.second, 'total')] : []),
      make('td', { class: 'name' }, row.cells),
    ]));
    const heading = hasTotal
      ? [make('th', { scope: 'col', text: 'self' }), make('th', { scope: 'col', text: 'total' })]
      : [make('th', { scope: 'col', text: 'share' })];
    const parts = [make('table', { 'data-table': title.toLowerCase() }, [
      make('caption', { text: title }),
      make('thead', {}, [make('tr', {}, [...heading, make('th', { scope: 'col', text: hasTotal ? 'place' : 'function' })])]),
      make('tbody', {}, body.length > 0 ? body : [make('tr', {}, [make('td', { class: 'dim', colspan: 3, text: 'nothing' })])]),
    ])];
    if (shown.length < rows.length) {
      parts.push(make('button', { type: 'button', class: 'link', text: `${formatCount(rows.length - shown.length)} more`, onclick: () => {
        this.whole.add(title);
        this.render();
      } }));
    }
    return make('div', { class: 'part' }, parts);
  }
}

// The places of a function, hottest first. Those of a line are one where it is known what
// stands there; of long lines that is only a part, and what is elsewhere stays apart.
function joinLines(places) {
  const hottestFirst = (a, b) => b.self - a.self || b.total - a.total || a.line - b.line;
  const rows = new Map();
  for (const it of places.sort(hottestFirst)) {
    const key = it.source ? `${it.line} ${it.source}` : `${it.line}:${it.column}`;
    const row = rows.get(key);
    if (!row) {
      rows.set(key, { ...it, columns: it.column ? [it.column] : [] });
      continue;
    }
    row.self += it.self;
    row.total += it.total;
    row.columns.push(it.column);
  }
  return [...rows.values()].sort(hottestFirst);
}

// `line 7, column 3`, or `line 7, columns 3, 14, …`.
function linePlace({ line, columns }) {
  if (columns.length === 0) return `line ${line}`;
  if (columns.length === 1) return `line ${line}, column ${columns[0]}`;
  return `line ${line}, columns ${columns.slice(0, 4).join(', ')}${columns.length > 4 ? ', …' : ''}`;
}
