// The tables: functions, and packages with what else code comes from.

const FIRST_ROWS = 100;
const MORE_ROWS = 400;

const SELF = { key: 'self', title: 'Self', hint: 'What it did itself' };
const CAUSED = {
  key: 'caused',
  title: 'Caused',
  hint: 'Itself, and what Node.js, V8 and native code did for it: the innermost package on the stack counts',
};
const TOTAL = { key: 'total', title: 'Total', hint: 'With all that it called' };
const COLUMNS = {
  functions: [SELF, TOTAL, { key: 'name', title: 'Function', hint: 'By name' }],
  packages: [SELF, CAUSED, TOTAL, { key: 'name', title: 'Package', hint: 'By name' }],
};

class Tables {
  constructor(page) {
    this.page = page;
    this.list = 'functions';
    this.sorting = {
      functions: { key: 'self', isUp: false },
      packages: { key: 'caused', isUp: false },
    };
    this.shown = FIRST_ROWS;
    this.head = document.querySelector('#list thead tr');
    this.body = document.querySelector('#list tbody');
    this.filter = byId('filter');
    this.tabs = [...document.querySelectorAll('#lists [role=tab]')];
    this.listen();
  }

  listen() {
    for (const tab of this.tabs) {
      tab.addEventListener('click', () => {
        this.list = tab.dataset.list;
        this.shown = FIRST_ROWS;
        this.render();
      });
    }
    arrowsChooseTab(byId('lists'));
    this.filter.addEventListener('input', () => {
      this.shown = FIRST_ROWS;
      this.render();
    });
    byId('more').addEventListener('click', () => {
      this.shown += MORE_ROWS;
      this.render();
    });
    this.body.addEventListener('click', (event) => this.choose(event.target.closest('tr')));
    this.body.addEventListener('keydown', (event) => {
      const row = event.target.closest('tr');
      if (event.key === 'Enter' || event.key === ' ') this.choose(row);
      else if (event.key === 'ArrowDown') row.nextElementSibling?.focus();
      else if (event.key === 'ArrowUp') row.previousElementSibling?.focus();
      else return;
      event.preventDefault();
    });
  }

  choose(row) {
    if (!row) return;
    const number = Number(row.dataset.number);
    if (this.list === 'functions') {
      this.page.select(number);
      this.page.showFunction(number);
    } else {
      this.page.highlightGroups(new Set([number]));
    }
  }

  entries() {
    const { model, totals } = this.page;
    if (this.list === 'functions') {
      return model.functions.map((it, number) => ({
        number,
        name: it.name,
        place: it.place,
        shownPlace: it.relativePlace,
        file: it.file,
        line: it.line,
        group: it.group,
        self: totals.functionSelf[number],
        total: totals.functionTotal[number],
      }));
    }
    return model.groups.map((it, number) => ({
      number,
      name: it.label,
      place: it.label === it.originName ? '' : it.originName,
      shownPlace: it.label === it.originName ? '' : it.originName,
      group: number,
      self: totals.groupSelf[number],
      caused: totals.groupCaused[number],
      total: totals.groupTotal[number],
    }));
  }

  sorted() {
    const wanted = this.filter.value.trim().toLowerCase();
    const { key, isUp } = this.sorting[this.list];
    const other = key === 'total' ? 'self' : 'total';
    const sign = isUp ? 1 : -1;
    return this.entries()
      .filter((it) => it.total > 0)
      .filter((it) => !wanted || `${it.name} ${it.place}`.toLowerCase().includes(wanted))
      .sort((a, b) => {
        if (key === 'name') return sign * compareText(a.name, b.name) || b.self - a.self || a.number - b.number;
        return sign * (a[key] - b[key]) || b[other] - a[other] || a.number - b.number;
      });
  }

  render() {
    const { totals } = this.page;
    chooseTab(this.tabs, (tab) => tab.dataset.list === this.list);
    this.renderHead();
    const rows = this.sorted();
    this.body.replaceChildren(...rows.slice(0, this.shown).map((it) => this.row(it, totals.all)));
    const more = byId('more');
    more.hidden = rows.length <= this.shown;
    more.textContent = `${formatCount(rows.length - this.shown)} more: show ${formatCount(Math.min(MORE_ROWS, rows.length - this.shown))}`;
    byId('list').dataset.rows = rows.length;
    byId('list').dataset.list = this.list;
    this.markSelected();
  }

  renderHead() {
    const sorting = this.sorting[this.list];
    this.head.replaceChildren(...COLUMNS[this.list].map(({ key, title, hint }) => {
      const isSorted = sorting.key === key;
      const sign = isSorted ? (sorting.isUp ? ' ▴' : ' ▾') : '';
      const button = make('button', { type: 'button', text: title + sign, title: hint });
      button.addEventListener('click', () => {
        // Numbers begin with the most, names with A.
        sorting.isUp = isSorted ? !sorting.isUp : key === 'name';
        sorting.key = key;
        this.shown = FIRST_ROWS;
        this.render();
        this.head.querySelector(`[data-key=${key}] button`).focus();
      });
      const order = isSorted ? (sorting.isUp ? 'ascending' : 'descending') : 'none';
      return make('th', { scope: 'col', class: key, 'aria-sort': order, 'data-key': key }, [button]);
    }));
  }

  row(it, all) {
    const name = make('td', { class: 'name' }, [
      make('div', { class: 'main' }, [
        swatch(this.page.colors.ofGroup(it.group)),
        make('bdi', { text: it.name }),
      ]),
      make('div', { class: 'sub' }, [make('bdi', { text: it.shownPlace })]),
    ]);
    name.title = it.place ? `${it.name}\n${it.place}` : it.name;
    return make('tr', {
      tabindex: 0,
      'data-number': it.number,
      'data-file': it.file,
      'data-line': it.line,
      'data-self': it.self,
      'data-caused': it.caused,
      'data-total': it.total,
    }, COLUMNS[this.list].map(({ key }) => (key === 'name' ? name : this.amount(key, it[key], all))));
  }

  amount(key, count, all) {
    const cell = make('td', { class: key }, [
      make('div', { class: 'main', text: formatShare(count, all) }),
      make('div', { class: 'sub', text: this.page.shortAmount(count) }),
    ]);
    cell.style.setProperty('--share', `${all > 0 ? 100 * count / all : 0}%`);
    return cell;
  }

  markSelected() {
    const { selected } = this.page;
    for (const row of this.body.children) {
      const isIt = this.list === 'functions' && Number(row.dataset.number) === selected;
      row.setAttribute('aria-selected', isIt);
    }
  }
}

// By characters, without a language: much faster, and the same everywhere.
function compareText(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}
