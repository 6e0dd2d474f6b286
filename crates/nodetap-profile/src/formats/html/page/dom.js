// Making elements. Names only ever become text nodes: nothing here reads markup.

function byId(id) {
  return document.getElementById(id);
}

// An element with properties (`class`, `text`, `on…` and attributes) and children.
function make(tag, properties = {}, children = []) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') element.className = value;
    else if (name === 'text') element.textContent = value;
    else if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

// A coloured square.
function swatch(color) {
  const square = make('span', { class: 'swatch' });
  square.style.background = color;
  return square;
}

// Calls `work` once before the next picture, however often it is asked for.
function oncePerFrame(work) {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    requestAnimationFrame(() => {
      isDue = false;
      work();
    });
  };
}

// Marks the chosen one of some tabs.
function chooseTab(tabs, isChosen) {
  for (const tab of tabs) {
    const chosen = isChosen(tab);
    tab.setAttribute('aria-selected', chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }
}

// Arrow keys go from tab to tab.
function arrowsChooseTab(list) {
  list.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const tabs = [...list.querySelectorAll('[role=tab]')].filter((tab) => !tab.disabled);
    const at = tabs.indexOf(document.activeElement);
    const next = tabs[(at + step + tabs.length) % tabs.length];
    next.focus();
    next.click();
    event.stopPropagation();
  });
}
