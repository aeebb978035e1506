// The explorable part of one Jacobian: what is shown, what is pointed at, what is said about it.

let explorers = 0; // numbers the groups of radio buttons of this script's own explorers

class Explorer {
  constructor(problem, pair, place) {
    Object.assign(this, { problem, pair, place, held: null });
    this.views = this.#views();
    this.number = ++explorers;
    this.sum = element("div", "jvp-sum");
    this.sum.setAttribute("role", "status");
    this.sum.setAttribute("aria-live", "polite");
    this.stage = element("div", "jvp-stage");
    this.legend = element("div", "jvp-legend");
    const desk = element("div", "jvp-desk");
    desk.append(this.stage, this.sum);
    place.append(this.#toolbar(), desk, this.legend);
    this.#legend();
    this.stage.addEventListener("pointerover", (event) => this.#point(event, false));
    this.stage.addEventListener("focusin", (event) => this.#point(event, true));
    this.stage.addEventListener("pointerleave", () => this.held && this.select(this.held));
    problem.onChange((y) => y === pair.y && this.#changed());
    this.pieces = this.#pieces();
    this.show(this.views[0]);
  }

  #views() {
    if (!fitsInTable(this.pair.J)) return [{ name: "Map", make: null }];
    const { m, n } = this.pair.J;
    const views = [{ name: `Matrix ${m}×${n}`, make: matrixView }];
    if (n > 1 && this.pair.y.shape.length !== 0) views.push({ name: `Slices by ${this.pair.x.name}`, make: inputSlices });
    if (m > 1 && this.pair.x.shape.length !== 0) views.push({ name: `Slices by ${this.pair.y.name}`, make: outputSlices });
    return views;
  }

  // The pieces of the formula of this Jacobian: each lights up the entries that it is about.
  #pieces() {
    const found = [...this.place.parentElement.querySelectorAll("[data-light]")];
    for (const piece of found) {
      const selection = { kind: "light", at: Number(piece.dataset.light), name: piece.getAttribute("aria-label") };
      piece.addEventListener("pointerenter", (event) => event.pointerType === "touch" || this.select(selection));
      piece.addEventListener("pointerleave", () => this.held && this.select(this.held));
      for (const kind of ["focus", "click"]) piece.addEventListener(kind, () => this.hold(selection));
    }
    return found;
  }

  // Whether a piece of the formula is what is selected, or is about the entry that is.
  #isAbout(piece, { kind, at, k, i }) {
    const light = Number(piece.dataset.light);
    if (kind === "light") return light === at;
    return kind === "J" && this.pair.lights[light].at(k * this.pair.J.n + i) === 1;
  }

  show(view) {
    this.stage.replaceChildren();
    if (view.make) {
      this.cells = new Cells(this.problem, this.pair);
      this.stage.append(view.make(this.cells));
    } else {
      this.cells = new Heat(this);
      this.stage.append(this.cells.element);
    }
    this.hold(this.held ?? this.#first());
  }

  // The first entry of the result that has a term, else simply the first.
  #first() {
    const { J, y, followable } = this.pair;
    if (J instanceof Blocks || !J.n || !J.m) return null;
    if (followable)
      for (let i = 0; i < Math.min(J.n, 64); i++)
        if (J.column(i).some(([k, entry]) => !isZero(mul(y.v[k], entry)))) return { kind: "result", i };
    return { kind: "result", i: 0 };
  }

  #point(event, keep) {
    const selection = this.cells.selectionOf(event.target);
    if (!selection) return;
    if (keep) this.hold(selection);
    else this.select(selection);
  }

  // What the focus is on stays selected when the pointer goes.
  hold(selection) {
    this.held = selection;
    if (selection) this.select(selection);
  }

  select(selection) {
    this.selection = selection;
    this.cells.light(selection);
    for (const piece of this.pieces) piece.classList.toggle("jvp-on", this.#isAbout(piece, selection));
    this.say(describe(this.pair, selection), selection.kind === "y" || selection.kind === "v" ? "out" : "in");
    if (this.onehot && selection.k !== undefined) this.#aim(selection.k);
  }

  say(content, side) {
    this.sum.replaceChildren(content);
    this.sum.dataset.side = side;
  }

  #changed() {
    this.cells.refresh();
    if (this.selection) this.select(this.selection);
  }

  #toolbar() {
    const bar = element("div", "jvp-toolbar");
    if (this.views.length > 1) bar.append(this.#choice());
    if (this.pair.y.given) bar.append(this.#weights());
    return bar;
  }

  #choice() {
    const group = element("fieldset", "jvp-choice");
    group.append(element("legend", "", `Show ${this.pair.words.matrix} as`));
    this.views.forEach((view, index) => {
      const label = element("label", "jvp-tab", view.name);
      const radio = element("input");
      Object.assign(radio, { type: "radio", name: `${this.place.closest(".jvp").id}-view-${this.number}`, checked: index === 0 });
      radio.addEventListener("change", () => this.show(view));
      label.prepend(radio);
      group.append(label);
    });
    return group;
  }

  #weights() {
    const { problem, pair } = this;
    const group = element("fieldset", "jvp-choice");
    if (!problem.editable(pair.y)) {
      group.append(element("span", "jvp-quiet", this.#whyFixed()));
      return group;
    }
    group.append(element("legend", "", `Set ${pair.words.weight}`));
    const button = (text, weight) => {
      const made = element("button", "", text);
      made.type = "button";
      made.addEventListener("click", () => problem.fill(pair.y, weight));
      group.append(made);
      return made;
    };
    button("as given", (k) => pair.y.given.at(k));
    button("ones", () => 1);
    this.onehot = button("", (k) => Number(k === this.aim));
    this.#aim(0);
    return group;
  }

  #aim(k) {
    this.aim = k;
    this.onehot.textContent = `one-hot at ${entryName(this.pair.y, k)}`;
  }

  #whyFixed() {
    const { weight } = this.pair.words;
    if (this.pair.J instanceof Blocks) return `${weight} is fixed: the page holds a picture of this Jacobian, not its entries.`;
    if (!this.pair.editable && this.pair.J) return "v is fixed: for complex numbers the result needs ∂(Im y) too.";
    return `${weight} is fixed: not every Jacobian of this output is in the page.`;
  }

  #legend() {
    const { scale, J } = this.pair;
    if (!scale) return;
    let [below, above] = [false, false];
    const look = (entry) => {
      if (isNegative(entry)) below = true;
      else above = true;
    };
    if (J instanceof Blocks) for (let at = 0; at < J.values.length; at++) isZero(J.values.at(at)) || look(J.values.at(at));
    else J.forEach((k, i, entry) => look(entry));
    const bar = element("span", "jvp-scale");
    bar.append(below ? `-${numberText(scale)}` : "0");
    bar.append(element("span", `jvp-bar jvp-bar-${below ? (above ? "both" : "minus") : "plus"}`));
    bar.append(above ? numberText(scale) : "0");
    this.legend.append(bar, element("span", "", "colour: the entry of the Jacobian; zero entries are grey"));
  }
}
