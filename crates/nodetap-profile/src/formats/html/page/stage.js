// The place where graphs are drawn: its size, its scrolling, the mouse, keys.

class Stage {
  constructor(page) {
    this.page = page;
    this.element = byId('stage');
    this.canvas = byId('canvas');
    this.spacer = byId('stage-height');
    this.width = 0;
    this.height = 0;
    this.redraw = oncePerFrame(() => this.draw());
    new ResizeObserver(() => this.resized()).observe(this.element);
    this.element.addEventListener('scroll', () => {
      this.page.tooltip.hide();
      this.redraw();
    });
    this.listenToMouse();
    this.element.addEventListener('keydown', (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (this.page.view.key(event)) event.preventDefault();
    });
    for (const type of ['focus', 'blur']) this.element.addEventListener(type, this.redraw);
  }

  resized() {
    const { clientWidth, clientHeight } = this.element;
    const scale = window.devicePixelRatio || 1;
    if (clientWidth === this.width && clientHeight === this.height && scale === this.scale) return;
    this.width = clientWidth;
    this.height = clientHeight;
    this.scale = scale;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    this.canvas.style.width = `${this.width}px`;
    this.canvas.style.height = `${this.height}px`;
    this.contentChanged();
    // At once: a canvas is empty after its size has changed.
    this.draw();
  }

  // To be called when there is more to be seen, or less.
  contentChanged() {
    if (!this.page.view) return;
    const height = Math.max(this.page.view.contentHeight(), this.height);
    this.spacer.style.height = `${Math.max(0, height - this.height)}px`;
    this.redraw();
  }

  // Scrolls as little as it takes to see these rows, with something around them.
  reveal(top, height) {
    const margin = Math.min(3 * ROW, this.height / 4);
    const { scrollTop } = this.element;
    if (top < scrollTop + margin) this.element.scrollTop = Math.max(0, top - margin);
    else if (top + height > scrollTop + this.height - margin) {
      this.element.scrollTop = top + height - this.height + margin;
    }
  }

  draw() {
    const { view, boxes } = this.page;
    if (!view || this.width === 0) return;
    const context = this.canvas.getContext('2d');
    context.setTransform(this.scale, 0, 0, this.scale, 0, 0);
    context.clearRect(0, 0, this.width, this.height);
    boxes.begin(context, this.page.css);
    if (this.page.totals.all > 0) {
      view.draw(boxes, this.width, this.height, this.element.scrollTop);
    }
    this.element.dataset.drawn = view.drawn ?? 0;
  }

  // Where an event is in the content.
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top + this.element.scrollTop };
  }

  listenToMouse() {
    const { element } = this;
    let pressed = null;
    element.addEventListener('pointerdown', (event) => {
      if (event.button !== 0 || this.page.totals.all === 0) return;
      const box = element.getBoundingClientRect();
      if (event.clientX - box.left >= this.width) return; // The scroll bar.
      pressed = this.place(event);
    });
    element.addEventListener('pointermove', (event) => {
      if (this.page.totals.all === 0) return;
      const at = this.place(event);
      const { view } = this.page;
      if (pressed && view.drag && Math.abs(at.x - pressed.x) > 3) {
        if (!element.hasPointerCapture(event.pointerId)) element.setPointerCapture(event.pointerId);
        view.drag(pressed, at);
        this.page.tooltip.hide();
        this.redraw();
        return;
      }
      const hit = view.hit(at.x, at.y);
      element.style.cursor = hit === undefined ? (view.drag ? 'crosshair' : 'default') : 'pointer';
      if (hit === undefined) this.page.tooltip.hide();
      else this.page.tooltip.show(view.tooltip(hit), event.clientX, event.clientY);
    });
    element.addEventListener('pointerup', (event) => {
      if (!pressed) return;
      const at = this.place(event);
      const { view } = this.page;
      const wasDrag = Math.abs(at.x - pressed.x) > 3;
      if (view.drag && wasDrag) view.dragged(pressed, at);
      else if (!wasDrag) view.click(view.hit(at.x, at.y), at);
      pressed = null;
      this.redraw();
    });
    element.addEventListener('pointercancel', () => {
      pressed = null;
      this.page.view.drag?.(null);
      this.redraw();
    });
    element.addEventListener('pointerleave', () => this.page.tooltip.hide());
    element.addEventListener('wheel', (event) => {
      if (this.page.view.wheel?.(event, this.place(event))) event.preventDefault();
    }, { passive: false });
  }
}
