// A large Jacobian as a picture on a canvas: v at its left edge, the result beneath, zoom, and one entry pointed at.

const WIDEST = 640;
const STRIP = 14;
const GAP = 4;
const LABEL_LINE = 16;

class Heat {
  constructor(explorer) {
    const { pair, problem } = explorer;
    Object.assign(this, { explorer, pair, problem, source: sourceOf(pair.J), selection: null });
    this.window = { k0: 0, k1: this.source.rows, i0: 0, i1: this.source.cols };
    this.element = element("div", "jvp-heat");
    this.canvas = element("canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "application");
    this.canvas.setAttribute("aria-roledescription", "heat map");
    this.canvas.setAttribute("aria-label", this.#title());
    this.note = element("div", "jvp-quiet");
    this.element.append(this.#buttons(), this.canvas, this.note);
    if (this.source.exact) this.element.append(this.#picker());
    new Gestures(this);
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    new ResizeObserver(() => this.#resize()).observe(this.element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#resize());
    matchMedia("print").addEventListener("change", () => this.#resize());
  }

  #title() {
    const { J, y, x } = this.pair;
    const keys = this.source.exact
      ? "Arrow keys move from entry to entry, with Shift to the next nonzero one; + and - zoom, 0 shows all."
      : "Arrow keys move from block to block; + and - zoom, 0 shows all.";
    return `∂${y.name}/∂${x.name}, ${grouped(J.m)} by ${grouped(J.n)} entries. ${keys}`;
  }

  #buttons() {
    const bar = element("div", "jvp-choice");
    for (const [text, label, act] of [
      ["+", "Zoom in", () => this.zoom(0.5)],
      ["−", "Zoom out", () => this.zoom(2)],
      ["fit", "Show all", () => this.zoom(Infinity)],
    ]) {
      const button = element("button", "", text);
      button.type = "button";
      button.setAttribute("aria-label", label);
      button.addEventListener("click", act);
      bar.append(button);
    }
    return bar;
  }

  // Row and column by number, and v there: what a pointer does, for keyboards and screen readers.
  #picker() {
    const { pair, problem } = this;
    const place = element("div", "jvp-picker");
    const field = (name, last, kind) => {
      const label = element("label", "", name);
      const input = element("input");
      Object.assign(input, { type: "number", min: 0, max: last, step: 1, value: 0 });
      input.addEventListener("input", () => {
        if (!input.value || !input.validity.valid) return;
        const chosen = { ...this.place(), [kind === "result" ? "i" : "k"]: Number(input.value) };
        this.explorer.hold({ kind, ...chosen });
        this.#reveal();
      });
      label.append(input);
      place.append(label);
      return input;
    };
    this.rowInput = field("row", pair.J.m - 1, "y");
    this.columnInput = field("column", pair.J.n - 1, "result");
    if (pair.y.v) {
      this.weightLabel = element("label", "", "v");
      place.append(this.weightLabel);
    }
    return place;
  }

  place() {
    const { k, i } = this.selection ?? {};
    return { k: k ?? this.lastK ?? 0, i: i ?? this.lastI ?? 0 };
  }

  selectionOf() {
    return null; // the canvas answers to the pointer itself
  }

  refresh() {
    this.#draw();
  }

  light(selection) {
    this.selection = selection;
    if (selection.k !== undefined) this.lastK = selection.k;
    if (selection.i !== undefined) this.lastI = selection.i;
    const { k, i } = this.place();
    const focused = this.element.getRootNode().activeElement;
    if (this.rowInput && focused !== this.rowInput) this.rowInput.value = k;
    if (this.columnInput && focused !== this.columnInput) this.columnInput.value = i;
    if (this.weightLabel && this.weightLabel.dataset.k !== String(k)) this.#weightAt(k);
    this.#draw();
  }

  #weightAt(k) {
    const { pair, problem } = this;
    this.weightLabel.dataset.k = k;
    const input = weightInput(problem, pair.y, k, weightName(pair, k));
    input.addEventListener("focus", () => this.explorer.hold({ kind: "v", k }));
    this.weightLabel.replaceChildren(weightName(pair, k), input);
  }

  // ---- the window ----

  // Zooms by a factor around a place (by default what is selected, or the middle).
  zoom(factor, around) {
    const { rows, cols } = this.source;
    const { k0, k1, i0, i1 } = this.window;
    const selected = this.selection && this.source.place(this.place());
    const [k, i] = around ?? (selected ? [selected.k + 0.5, selected.i + 0.5] : [(k0 + k1) / 2, (i0 + i1) / 2]);
    const height = Math.min(rows, Math.max(4, Math.round((k1 - k0) * factor)));
    const width = Math.min(cols, Math.max(4, Math.round((i1 - i0) * factor)));
    const share = [(k - k0) / (k1 - k0), (i - i0) / (i1 - i0)].map((s) => Math.min(1, Math.max(0, s)));
    this.moveTo(k - share[0] * height, i - share[1] * width, height, width);
  }

  moveTo(k0, i0, height = this.window.k1 - this.window.k0, width = this.window.i1 - this.window.i0) {
    const { rows, cols } = this.source;
    k0 = Math.max(0, Math.min(rows - height, Math.round(k0)));
    i0 = Math.max(0, Math.min(cols - width, Math.round(i0)));
    this.window = { k0, k1: k0 + height, i0, i1: i0 + width };
    this.picture = null;
    this.canvas.style.touchAction = height < rows || width < cols ? "none" : "pan-y";
    this.#draw();
  }

  // Brings the selection into the window.
  #reveal() {
    const { k, i } = this.source.place(this.place());
    const { k0, k1, i0, i1 } = this.window;
    if (k >= k0 && k < k1 && i >= i0 && i < i1) return;
    this.moveTo(k - (k1 - k0) / 2, i - (i1 - i0) / 2);
  }

  #key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in steps) this.#step(...steps[event.key], event.shiftKey);
    else if (event.key === "+" || event.key === "=") this.zoom(0.5);
    else if (event.key === "-") this.zoom(2);
    else if (event.key === "0") this.zoom(Infinity);
    else return;
    event.preventDefault();
  }

  #step(down, right, toNonzero) {
    const { source } = this;
    const here = source.place(this.place());
    let [k, i] = [here.k + down, here.i + right];
    if (toNonzero && source.exact) {
      const line = right ? this.pair.J.row(here.k) : this.pair.J.column(here.i);
      const [from, way] = right ? [here.i, right] : [here.k, down];
      const ahead = line.map(([other]) => other).filter((other) => (other - from) * way > 0);
      const next = ahead.length ? (way > 0 ? Math.min(...ahead) : Math.max(...ahead)) : from;
      [k, i] = right ? [here.k, next] : [next, here.i];
    }
    k = Math.max(0, Math.min(source.rows - 1, k));
    i = Math.max(0, Math.min(source.cols - 1, i));
    this.point({ kind: "J", k, i }, true);
    this.#reveal();
  }

  point(selection, keep) {
    if (!this.source.exact) {
      this.selection = selection;
      this.explorer.say(describeBlock(this.pair, this.source, selection), "in");
      this.#draw();
    } else if (keep) this.explorer.hold(selection);
    else this.explorer.select(selection);
  }

  // ---- pointing ----

  // What stands at a point of the canvas (CSS pixels): an entry (the largest of its block), a v or a result.
  hit(px, py) {
    const { left, width, height } = this.layout;
    const { k0, k1, i0, i1 } = this.window;
    const k = k0 + Math.floor(((py - 0) / height) * (k1 - k0));
    const i = i0 + Math.floor(((px - left) / width) * (i1 - i0));
    const inRows = k >= k0 && k < k1;
    const inColumns = i >= i0 && i < i1;
    if (inRows && inColumns) return { kind: "J", ...(this.#winner(px - left, py) ?? { k, i }) };
    if (!this.source.exact) return null;
    if (inRows && px < left) return { kind: "v", k };
    if (inColumns && py > height) return { kind: "result", i };
    return null;
  }

  // The entry that is seen at a point or within four pixels of it.
  #winner(px, py) {
    const { width, height } = this.layout;
    const { rows, cols, winners } = this.picture;
    const [c, r] = [Math.floor((px / width) * cols), Math.floor((py / height) * rows)];
    const [reachX, reachY] = [Math.floor((4 * cols) / width), Math.floor((4 * rows) / height)];
    let best = null;
    for (let y = Math.max(0, r - reachY); y <= Math.min(rows - 1, r + reachY); y++)
      for (let x = Math.max(0, c - reachX); x <= Math.min(cols - 1, c + reachX); x++) {
        const winner = winners[y * cols + x];
        const distance = Math.hypot(x - c, y - r);
        if (winner >= 0 && (!best || distance < best.distance)) best = { distance, winner };
      }
    if (!best) return null;
    return { k: Math.floor(best.winner / this.source.cols), i: best.winner % this.source.cols };
  }

  // ---- drawing ----

  #resize() {
    const space = Math.min(WIDEST, this.element.clientWidth);
    if (!space) return;
    const { rows, cols } = this.source;
    const left = STRIP + GAP;
    const width = space - left;
    const height = Math.round(Math.min(Math.max(width * (rows / cols), 56), width * 1.25));
    this.layout = { left, width, height };
    this.ratio = window.devicePixelRatio || 1;
    this.canvas.style.maxWidth = `${space}px`;
    this.canvas.width = Math.round(space * this.ratio);
    this.canvas.height = Math.round((height + GAP + STRIP + LABEL_LINE) * this.ratio);
    this.colours = coloursOf(this.element);
    this.picture = null;
    this.#draw();
  }

  #draw() {
    if (!this.layout || this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.#paint();
    });
  }

  #paint() {
    this.picture ??= picture(this.source, this.window, this.layout, this.colours, this.pair.scale);
    const context = this.canvas.getContext("2d");
    const { left, width, height } = this.layout;
    context.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    context.clearRect(0, 0, left + width, height + GAP + STRIP + LABEL_LINE);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture.canvas, left, 0, width, height);
    this.#blocks(context);
    if (this.source.exact && this.pair.y.v) this.#strips(context);
    if (this.selection) this.#mark(context);
    this.#labels(context);
    this.#tell();
  }

  // Pixels of an entry's left or upper edge.
  #x(i) {
    return this.layout.left + ((i - this.window.i0) / (this.window.i1 - this.window.i0)) * this.layout.width;
  }
  #y(k) {
    return ((k - this.window.k0) / (this.window.k1 - this.window.k0)) * this.layout.height;
  }

  #blocks(context) {
    const count = this.pair.blocks;
    if (!this.source.exact || count < 2 || count > 64) return;
    const { left, width, height } = this.layout;
    context.save();
    context.beginPath();
    context.rect(left, 0, width, height);
    context.clip();
    context.strokeStyle = this.colours.line;
    for (let b = 0; b < count; b++) {
      const [k, i] = [(this.source.rows / count) * b, (this.source.cols / count) * b];
      const [nextK, nextI] = [k + this.source.rows / count, i + this.source.cols / count];
      context.strokeRect(this.#x(i), this.#y(k), this.#x(nextI) - this.#x(i), this.#y(nextK) - this.#y(k));
    }
    context.restore();
  }

  #strips(context) {
    const { height } = this.layout;
    const { k0, k1, i0, i1 } = this.window;
    const lit = this.#lit();
    strip(this.pair.y.v, k0, k1, lit.rows, (from, to, alpha, on) => {
      context.globalAlpha = alpha;
      context.fillStyle = on ? this.colours.out : this.colours.quiet;
      context.fillRect(0, this.#y(from), STRIP, Math.max(1, this.#y(to) - this.#y(from)));
    });
    if (this.pair.result)
      strip(this.pair.result, i0, i1, lit.columns, (from, to, alpha, on) => {
        context.globalAlpha = alpha;
        context.fillStyle = on ? this.colours.in : this.colours.quiet;
        context.fillRect(this.#x(from), height + GAP, Math.max(1, this.#x(to) - this.#x(from)), STRIP);
      });
    context.globalAlpha = 1;
  }

  // Which v and which results take part in what is selected; null: all.
  #lit() {
    const { kind, k, i } = this.selection ?? {};
    const { J } = this.pair;
    if (kind === "result" || kind === "x") return { rows: new Set(J.column(i).map(([row]) => row)), columns: new Set([i]) };
    if (kind === "y" || kind === "v") return { rows: new Set([k]), columns: new Set(J.row(k).map(([column]) => column)) };
    if (kind === "J") return { rows: new Set([k]), columns: new Set([i]) };
    return { rows: null, columns: null };
  }

  #mark(context) {
    const { left, width, height } = this.layout;
    const { kind } = this.selection;
    const { k, i } = this.source.place(this.place());
    const [x, y] = [this.#x(i), this.#y(k)];
    const [w, h] = [Math.max(1.5, this.#x(i + 1) - x), Math.max(1.5, this.#y(k + 1) - y)];
    context.save();
    context.beginPath();
    context.rect(left - 1, -1, width + 2, height + 2);
    context.clip();
    const column = kind === "J" || kind === "result" || kind === "x";
    const row = kind === "J" || kind === "y" || kind === "v";
    context.globalAlpha = 0.35;
    if (column) this.#bar(context, this.colours.in, x, 0, w, height);
    if (row) this.#bar(context, this.colours.out, left, y, width, h);
    context.globalAlpha = 1;
    if (kind === "J") {
      context.strokeStyle = this.colours.ink;
      context.lineWidth = 2;
      context.strokeRect(x - 3, y - 3, w + 6, h + 6);
    }
    context.restore();
  }

  #bar(context, colour, x, y, width, height) {
    context.fillStyle = colour;
    context.fillRect(x, y, width, height);
  }

  #labels(context) {
    const { left, width, height } = this.layout;
    const { i0, i1 } = this.window;
    const columns = (c, end) => entryName(this.pair.x, this.source.columns(c)[end]);
    context.font = `11px ${getComputedStyle(this.element).getPropertyValue("--mono")}`;
    context.fillStyle = this.colours.in;
    context.textBaseline = "bottom";
    const baseline = height + GAP + STRIP + LABEL_LINE;
    context.textAlign = "left";
    context.fillText(columns(i0, 0), left, baseline);
    context.textAlign = "right";
    context.fillText(columns(i1 - 1, 1), left + width, baseline);
  }

  #tell() {
    const { J, y } = this.pair;
    const { k0, k1, i0, i1 } = this.window;
    const { source } = this;
    const { rows, cols } = this.picture;
    const down = Math.ceil((k1 - k0) / rows) * source.tall;
    const across = Math.ceil((i1 - i0) / cols) * source.broad;
    const all = k1 - k0 === source.rows && i1 - i0 === source.cols;
    const rowsShown = `${entryName(y, source.lines(k0)[0])} to ${entryName(y, source.lines(k1 - 1)[1])}`;
    const part = all ? `All ${grouped(J.m)} × ${grouped(J.n)} entries, rows ${rowsShown}` : `Rows ${rowsShown}, of ${grouped(J.m)} × ${grouped(J.n)} entries`;
    const blocks = down > 1 || across > 1 ? `a dot is the largest of up to ${grouped(down)} × ${grouped(across)} entries` : "a dot an entry";
    const edges = source.exact && y.v ? "; left edge: v, lower edge: the result" : "";
    const text = `${part}; ${blocks}${edges}.`;
    if (this.note.textContent !== text) this.note.textContent = text;
  }
}

// What a picture is made from: the entries themselves, or the blocks that a page holds instead.
function sourceOf(J) {
  if (!(J instanceof Blocks))
    return {
      exact: true, rows: J.m, cols: J.n, tall: 1, broad: 1, thick: J instanceof Sparse && J.values.length < 0.05 * J.m * J.n,
      forEach: (visit, first, last) => J.forEach(visit, first, last),
      place: (entry) => entry, lines: (k) => [k, k], columns: (i) => [i, i],
    };
  const range = (position, count, total) => [Math.ceil((position * total) / count), Math.ceil(((position + 1) * total) / count) - 1];
  return {
    exact: false, rows: J.height, cols: J.width, tall: Math.ceil(J.m / J.height), broad: Math.ceil(J.n / J.width), thick: false,
    forEach(visit, first, last) {
      for (let k = first; k < last; k++)
        for (let i = 0; i < J.width; i++) {
          const entry = J.values.at(k * J.width + i);
          if (entry !== 0) visit(k, i, entry);
        }
    },
    place: (block) => block,
    lines: (k) => range(k, J.height, J.m),
    columns: (i) => range(i, J.width, J.n),
    at: (k, i) => J.values.at(k * J.width + i),
  };
}

// The window as an image of dots, each coloured by the entry of largest absolute value among those it stands for;
// `winners` are the flattened places of those entries, -1 where all are zero.
function picture(source, window, layout, colours, scale) {
  const { k0, k1, i0, i1 } = window;
  const dot = source.thick ? 2 : 1;
  const rows = Math.max(1, Math.min(k1 - k0, Math.floor(layout.height / dot)));
  const cols = Math.max(1, Math.min(i1 - i0, Math.floor(layout.width / dot)));
  const winners = new Float64Array(rows * cols).fill(-1);
  const largest = new Float64Array(rows * cols);
  const signs = new Int8Array(rows * cols);
  const [down, across] = [rows / (k1 - k0), cols / (i1 - i0)];
  source.forEach(
    (k, i, entry) => {
      if (i < i0 || i >= i1) return;
      const place = Math.floor((k - k0) * down) * cols + Math.floor((i - i0) * across);
      const size = magnitude(entry);
      if (winners[place] >= 0 && !(size > largest[place]) && size === size) return;
      winners[place] = k * source.cols + i;
      largest[place] = size;
      signs[place] = size !== size ? 0 : isNegative(entry) ? -1 : 1;
    },
    k0,
    k1,
  );
  const image = new ImageData(cols, rows);
  for (let place = 0; place < winners.length; place++) {
    const seen = winners[place] >= 0;
    const part = seen ? Math.min(1, 0.25 + (0.75 * largest[place]) / (scale || 1)) : 0;
    const tone = !seen ? colours.zero : signs[place] ? colours[signs[place] > 0 ? "positive" : "negative"] : colours.nan;
    for (let c = 0; c < 3; c++) image.data[4 * place + c] = signs[place] ? colours.zero[c] + part * (tone[c] - colours.zero[c]) : tone[c];
    image.data[4 * place + 3] = 255;
  }
  const canvas = element("canvas");
  Object.assign(canvas, { width: cols, height: rows });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { canvas, rows, cols, winners };
}

// Runs of a vector's entries for a strip of at most 640 dots: from, to, how strong, whether one of them is lit.
function strip(vector, first, last, lit, draw) {
  let most = 0;
  for (const entry of vector) if (Number.isFinite(magnitude(entry))) most = Math.max(most, magnitude(entry));
  const step = Math.max(1, Math.ceil((last - first) / WIDEST));
  for (let from = first; from < last; from += step) {
    const to = Math.min(last, from + step);
    let [size, on] = [0, lit === null];
    for (let at = from; at < to; at++) {
      size = Math.max(size, magnitude(vector[at]));
      on ||= lit.has(at);
    }
    draw(from, to, on ? 1 : size ? 0.15 + (0.35 * Math.min(size, most)) / (most || 1) : 0.06, on);
  }
}

function coloursOf(place) {
  const probe = element("span");
  place.append(probe);
  const resolved = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const channels = (name) => resolved(name).match(/[\d.]+/g).slice(0, 3).map(Number);
  const colours = {
    zero: channels("raised"), positive: channels("pos"), negative: channels("neg"), nan: channels("warn"),
    ink: resolved("ink"), quiet: resolved("quiet"), line: resolved("quiet"), in: resolved("in"), out: resolved("out"),
  };
  probe.remove();
  return colours;
}

function describeBlock(pair, source, { k, i }) {
  const [lines, columns] = [source.lines(k), source.columns(i)];
  const made = document.createDocumentFragment();
  const span = (tensor, [from, to]) => (from === to ? entryName(tensor, from) : `${entryName(tensor, from)} to ${entryName(tensor, to)}`);
  made.append(element("div", "jvp-num", `Rows ${span(pair.y, lines)}, columns ${span(pair.x, columns)}: the largest entry is ${numberText(source.at(k, i))}`));
  made.append(element("div", "jvp-quiet", "This Jacobian is too large for a page to hold: it shows blocks. --json has every entry."));
  return made;
}

// Pointer, wheel and pinch on the canvas.
class Gestures {
  constructor(heat) {
    Object.assign(this, { heat, pointers: new Map(), dragged: false });
    const { canvas } = heat;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#up(event));
    canvas.addEventListener("dblclick", (event) => heat.zoom(0.5, this.#entry(event)));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  // The place under a pointer, in entries.
  #entry(event) {
    const { left, width, height } = this.heat.layout;
    const { k0, k1, i0, i1 } = this.heat.window;
    return [k0 + (event.offsetY / height) * (k1 - k0), i0 + ((event.offsetX - left) / width) * (i1 - i0)];
  }

  #down(event) {
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (event.isTrusted) this.heat.canvas.setPointerCapture(event.pointerId);
    this.dragged = false;
    this.from = { ...this.heat.window, at: [event.offsetX, event.offsetY] };
    this.spread = this.#spread();
  }

  #move(event) {
    const { heat } = this;
    if (!heat.layout || !heat.picture) return;
    if (!this.pointers.has(event.pointerId)) {
      const hit = heat.hit(event.offsetX, event.offsetY);
      if (hit) heat.point(hit, false);
      return;
    }
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 2) {
      const spread = this.#spread();
      if (Math.abs(spread / this.spread - 1) > 0.15) {
        heat.zoom(this.spread / spread, this.#entry(event));
        this.spread = spread;
      }
      this.dragged = true;
      return;
    }
    const [dx, dy] = [event.offsetX - this.from.at[0], event.offsetY - this.from.at[1]];
    if (!this.dragged && Math.hypot(dx, dy) < 5) return;
    this.dragged = true;
    const { width, height } = heat.layout;
    const { k0, k1, i0, i1 } = this.from;
    heat.moveTo(k0 - (dy / height) * (k1 - k0), i0 - (dx / width) * (i1 - i0));
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.dragged || event.type === "pointercancel" || !this.heat.picture) return;
    const hit = this.heat.hit(event.offsetX, event.offsetY);
    if (hit) this.heat.point(hit, true);
  }

  #spread() {
    const [a, b] = [...this.pointers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  }

  // Plain scrolling scrolls the page, unless the canvas has the focus; with Ctrl (and a pinch of a touchpad) it zooms.
  #wheel(event) {
    const focused = this.heat.canvas === this.heat.canvas.getRootNode().activeElement;
    if (!focused && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.heat.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#entry(event));
  }
}
