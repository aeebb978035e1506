// A large Jacobian as a picture on a canvas: v at its left edge, the result beneath, zoom, and one entry pointed at.

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
      this.weightLabel = element("label", "", pair.words.weight);
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
    context.globalAlpha = Math.min(w, h) > 8 ? 1 : 0.35;
    if (column) this.#bar(context, this.colours.in, x, 0, w, height);
    if (row) this.#bar(context, this.colours.out, left, y, width, h);
    context.globalAlpha = 1;
    if (kind === "light") this.#pieces(context);
    if (kind === "J") {
      context.strokeStyle = this.colours.ink;
      context.lineWidth = 2;
      context.strokeRect(x - 3, y - 3, w + 6, h + 6);
    }
    context.restore();
  }

  // The entries that a piece of the formula is about: every other one is covered, so that their colours can still be told.
  #pieces(context) {
    const { k0, k1, i0, i1 } = this.window;
    const light = this.pair.lights[this.selection.at];
    context.globalAlpha = 0.75;
    context.fillStyle = this.colours.paper;
    for (let k = k0; k < k1; k++)
      for (let i = i0; i < i1; i++)
        if (!light.at(k * this.pair.J.n + i)) context.fillRect(this.#x(i), this.#y(k), this.#x(i + 1) - this.#x(i), this.#y(k + 1) - this.#y(k));
    context.globalAlpha = 1;
  }

  // A thin line is filled; a band that is wide enough is framed, so that the colours inside can still be told.
  #bar(context, colour, x, y, width, height) {
    context.fillStyle = context.strokeStyle = colour;
    context.lineWidth = 2;
    if (Math.min(width, height) > 8) context.strokeRect(x + 1, y + 1, width - 2, height - 2);
    else context.fillRect(x, y, width, height);
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

function describeBlock(pair, source, { k, i }) {
  const [lines, columns] = [source.lines(k), source.columns(i)];
  const made = document.createDocumentFragment();
  const span = (tensor, [from, to]) => (from === to ? entryName(tensor, from) : `${entryName(tensor, from)} to ${entryName(tensor, to)}`);
  made.append(element("div", "jvp-num", `Rows ${span(pair.y, lines)}, columns ${span(pair.x, columns)}: the largest entry is ${numberText(source.at(k, i))}`));
  made.append(element("div", "jvp-quiet", "This Jacobian is too large for a page to hold: it shows blocks. --json has every entry."));
  return made;
}
