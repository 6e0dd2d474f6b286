// Which colour code has, by where it comes from.

// Hue and chroma in OKLCH, where equal lightness looks equally light: text can be read on
// all of them. By origin, in the order of `Origin::ALL`.
const ORIGIN_COLORS = [
  [70, 0.13], // own code
  [250, 0.1], // dependencies, which have hues of their own
  [145, 0.1], // Node.js
  [105, 0.1], // V8
  [22, 0.13], // garbage collector
  [50, 0.045], // native
  [350, 0.08], // kernel
  [270, 0.012], // waiting
  [270, 0.0], // unknown
];
// Dependencies share what is left of the circle. Those with most samples come first, and
// are far from each other.
const HUES = [245, 185, 305, 215, 275, 325, 200, 290, 230, 260];

// Name, place.
const LIGHT_TEXT = ['#18181b', '#3f3f46'];
const DARK_TEXT = ['#09090b', '#27272a'];
const TEXT_ON_DARK = ['#f4f4f5', '#d4d4d8'];

class Colors {
  constructor(model, groupWeights) {
    this.model = model;
    this.hues = chooseHues(model.groups, groupWeights);
    this.shades = model.functions.map((it) => (hash(it.name + it.place) % 5 - 2) / 2);
    this.setTheme(false);
  }

  setTheme(isDark) {
    this.isDark = isDark;
    this.known = new Map();
  }

  // The colours of a name and of what stands behind it, on a function's own.
  textOn(fn) {
    const { origin } = this.model.groups[this.model.groupOf[fn]];
    if (!this.isDark) return LIGHT_TEXT;
    return origin === ORIGIN_WAITING ? TEXT_ON_DARK : DARK_TEXT;
  }

  // The fill of a function: a shade of its group's colour.
  ofFunction(fn) {
    const { group } = this.model.functions[fn];
    return this.ofGroup(group, this.shades[fn]);
  }

  ofGroup(group, shade = 0) {
    const key = group * 8 + shade * 2 + 2;
    let color = this.known.get(key);
    if (!color) {
      color = this.make(group, shade);
      this.known.set(key, color);
    }
    return color;
  }

  make(group, shade) {
    const { origin } = this.model.groups[group];
    let [hue, chroma] = ORIGIN_COLORS[origin] ?? ORIGIN_COLORS[ORIGIN_UNKNOWN];
    if (origin === ORIGIN_DEPENDENCY) hue = this.hues.get(group);
    const isWaiting = origin === ORIGIN_WAITING;
    const light = this.isDark ? (isWaiting ? 0.37 : 0.72) : (isWaiting ? 0.92 : 0.84);
    return `oklch(${(light + shade * 0.02).toFixed(3)} ${chroma} ${hue.toFixed(1)})`;
  }
}

// A hue for each dependency.
function chooseHues(groups, weights) {
  const dependencies = groups.map((_, group) => group)
    .filter((group) => groups[group].origin === ORIGIN_DEPENDENCY)
    .sort((a, b) => weights[b] - weights[a] || a - b);
  return new Map(dependencies.map((group, rank) => [group, HUES[rank % HUES.length]]));
}

// FNV-1a: what has the same name has the same shade in every page.
function hash(text) {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  return (value ^ (value >>> 15)) >>> 0;
}
