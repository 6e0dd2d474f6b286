// What is known of the frame under the mouse.

class Tooltip {
  constructor(page) {
    this.page = page;
    this.element = byId('tooltip');
    this.shown = '';
  }

  // `about`: the function (-1: none), rows of a name, a count and of how many, and a text.
  show(about, x, y) {
    const key = JSON.stringify([about.fn, about.rows, about.text, about.stackNode]);
    if (key !== this.shown) {
      this.shown = key;
      this.fill(about);
    }
    this.element.hidden = false;
    this.place(x, y);
  }

  hide() {
    this.shown = '';
    this.element.hidden = true;
  }

  fill({ fn, rows, text, stackNode }) {
    const { page } = this;
    const children = [];
    if (fn >= 0) {
      const it = page.model.functions[fn];
      const group = page.model.groups[it.group];
      children.push(make('div', { class: 'name' }, [make('bdi', { text: it.name })]));
      if (it.place) children.push(make('div', { class: 'place' }, [make('bdi', { text: it.place })]));
      const what = [make('bdi', { text: group.label })];
      if (group.label !== group.originName) what.push(` (${group.originName})`);
      const tiers = stackNode === undefined ? '' : page.where.tiersOfNode(stackNode, page.totals);
      if (tiers) what.push(` · ${tiers}`);
      children.push(make('div', { class: 'what' }, [swatch(page.colors.ofGroup(it.group)), ...what]));
    }
    if (text) children.push(make('div', { class: 'what', text }));
    if (rows.length > 0) {
      children.push(make('table', {}, rows.map(([name, count, whole]) => make('tr', {}, [
        make('th', { text: name }),
        make('td', { text: formatShare(count, whole) }),
        make('td', { text: page.amount(count) }),
      ]))));
    }
    this.element.replaceChildren(...children);
  }

  // Beside the mouse, within the window.
  place(x, y) {
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const { clientWidth, clientHeight } = document.documentElement;
    const left = x + 14 + width > clientWidth - 4 ? x - 10 - width : x + 14;
    const top = y + 18 + height > clientHeight - 4 ? y - 10 - height : y + 18;
    this.element.style.left = `${Math.max(4, Math.min(left, clientWidth - width - 4))}px`;
    this.element.style.top = `${Math.max(4, Math.min(top, clientHeight - height - 4))}px`;
  }
}
