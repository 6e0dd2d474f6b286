// Searching: which functions match, and how much of what is shown that is.

class Search {
  constructor(page) {
    this.page = page;
    this.input = byId('search');
    this.regex = byId('regex');
    this.output = byId('matches');
    this.input.addEventListener('input', oncePerFrame(() => this.page.highlightChanged()));
    this.input.addEventListener('keydown', (event) => {
      if (event.key === 'Enter') byId('stage').focus();
    });
    this.regex.addEventListener('click', () => {
      this.regex.setAttribute('aria-pressed', this.regex.getAttribute('aria-pressed') !== 'true');
      this.page.highlightChanged();
      this.input.focus();
    });
  }

  isEmpty() {
    return this.input.value === '';
  }

  clear() {
    this.input.value = '';
    this.page.highlightChanged();
  }

  // Whether a text matches; null: there is nothing to be found.
  matcher() {
    const text = this.input.value;
    this.input.removeAttribute('aria-invalid');
    if (text === '') return null;
    if (this.regex.getAttribute('aria-pressed') !== 'true') {
      const wanted = text.toLowerCase();
      return (label) => label.toLowerCase().includes(wanted);
    }
    try {
      const pattern = new RegExp(text, 'iu');
      return (label) => pattern.test(label);
    } catch {
      this.input.setAttribute('aria-invalid', true);
      return () => false;
    }
  }

  // The functions that are searched for or whose groups are, as bytes; null: none.
  lit() {
    const { model, highlight } = this.page;
    const matches = this.matcher();
    if (!matches && !highlight) return null;
    return Uint8Array.from(model.functions, (it) => {
      if (highlight?.has(it.group)) return 1;
      if (!matches) return 0;
      const place = it.place ? ` ${it.place}` : '';
      return matches(`${it.name}${place} ${model.groups[it.group].label}`) ? 1 : 0;
    });
  }

  render(lit) {
    const { page } = this;
    if (!lit) {
      this.output.textContent = '';
      delete this.output.dataset.samples;
      return;
    }
    if (this.input.hasAttribute('aria-invalid')) {
      this.output.textContent = 'not a regular expression';
      delete this.output.dataset.samples;
      return;
    }
    const samples = countMatches(page.tree, page.totals, lit);
    let functions = 0;
    lit.forEach((isLit, fn) => {
      if (isLit && page.totals.functionTotal[fn] > 0) functions++;
    });
    this.output.dataset.samples = samples;
    const share = formatShare(samples, page.totals.all);
    this.output.textContent = functions === 0 ? 'no match'
      : `${share} in ${formatCount(functions)} ${functions === 1 ? 'function' : 'functions'}`;
    this.output.title = `${page.amount(samples)} have one of them on their stacks`;
  }
}
