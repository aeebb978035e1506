// The Jacobian entry by entry: as an m×n matrix, or as slices in the shapes of x and y.

const MOST_CELLS = 1600;
const MOST_ROWS = 256;
const MOST_COLUMNS = 64;

const fitsInTable = (J) => !(J instanceof Blocks) && J.m * J.n <= MOST_CELLS && J.m <= MOST_ROWS && J.n <= MOST_COLUMNS;

// Makes the cells of one view and knows them again: by element (what it selects) and by place (what lights up).
class Cells {
  constructor(problem, pair) {
    Object.assign(this, { problem, pair, selections: new WeakMap(), lit: [] });
    this.J = new Map();
    [this.y, this.v, this.x, this.results] = [new Map(), new Map(), new Map(), new Map()];
  }

  #cell(role, className, selection, label) {
    const cell = element("div", `jvp-cell ${className}`);
    cell.setAttribute("role", role);
    if (label) cell.setAttribute("aria-label", label);
    if (selection) this.selections.set(cell, selection);
    return cell;
  }

  blank(text = "", title = "") {
    const cell = this.#cell("columnheader", "jvp-quiet", null);
    cell.textContent = text;
    if (title) cell.title = title;
    return cell;
  }

  entry(k, i) {
    const entry = this.pair.J.at(k, i);
    const sign = isZero(entry) ? " jvp-zero" : isNegative(entry) ? " jvp-minus" : "";
    const cell = this.#cell("gridcell", `jvp-entry${sign}`, { kind: "J", k, i }, `${derivativeName(this.pair, k, i)} = ${numberText(entry)}`);
    cell.textContent = numberText(entry);
    const size = magnitude(entry);
    cell.style.setProperty("--t", isZero(entry) ? 0 : Number.isFinite(size) ? 0.2 + (0.8 * size) / (this.pair.scale || 1) : 1);
    this.J.set(k * this.pair.J.n + i, cell);
    return cell;
  }

  #label(tensor, flat, role, className, selection) {
    const value = tensor.value ? numberText(tensor.value.at(flat)) : null;
    const cell = this.#cell(role, className, selection, entryName(tensor, flat) + (value === null ? "" : ` = ${value}`));
    cell.append(entryName(tensor, flat));
    cell.title = entryName(tensor, flat);
    if (value !== null) cell.append(element("small", "", `= ${value}`));
    return cell;
  }

  output(k) {
    const cell = this.#label(this.pair.y, k, "rowheader", "jvp-label-out jvp-stick", { kind: "y", k });
    this.y.set(k, cell);
    return cell;
  }

  input(i) {
    const cell = this.#label(this.pair.x, i, "columnheader", "jvp-label-in", { kind: "x", i });
    this.x.set(i, cell);
    return cell;
  }

  weight(k) {
    const { pair, problem } = this;
    const cell = this.#cell("gridcell", "jvp-weight", { kind: "v", k });
    cell.append(weightInput(problem, pair.y, k, weightName(pair, k)));
    this.v.set(k, cell);
    return cell;
  }

  result(i) {
    const cell = this.#cell("gridcell", "jvp-result", { kind: "result", i });
    this.results.set(i, cell);
    this.#showResult(i);
    return cell;
  }

  #showResult(i) {
    const text = this.pair.result ? numberText(this.pair.result[i]) : "–";
    const cell = this.results.get(i);
    cell.textContent = text;
    cell.setAttribute("aria-label", `${resultName(this.pair, i)} = ${text}`);
  }

  refresh() {
    for (const i of this.results.keys()) this.#showResult(i);
    for (const [k, cell] of this.v) showWeight(cell.firstChild, this.pair.y.v[k]);
  }

  selectionOf(target) {
    return this.selections.get(target.closest?.(".jvp-cell")) ?? null;
  }

  // Lights what the selection is made from, and fades the weights that do not take part.
  light(selection) {
    for (const [cell, name] of this.lit) cell.classList.remove(name);
    this.lit = [];
    const { J } = this.pair;
    const mark = (cell, name = "jvp-on") => {
      if (!cell) return;
      cell.classList.add(name);
      this.lit.push([cell, name]);
    };
    const at = (k, i) => this.J.get(k * J.n + i);
    const { kind, k, i } = selection;
    if (kind === "light") {
      for (const [entry, cell] of this.J) if (this.pair.lights[selection.at].at(entry)) mark(cell);
    } else if (kind === "J") {
      for (const cell of [at(k, i), this.v.get(k), this.y.get(k), this.x.get(i), this.results.get(i)]) mark(cell);
    } else if (kind === "y" || kind === "v") {
      for (let other = 0; other < J.n; other++) mark(at(k, other), "jvp-band-out");
      for (const [other] of J.row(k)) [at(k, other), this.x.get(other)].forEach((cell) => mark(cell));
      [this.y.get(k), this.v.get(k)].forEach((cell) => mark(cell));
    } else {
      const partners = new Set(J.column(i).map(([other]) => other));
      for (let other = 0; other < J.m; other++) {
        mark(at(other, i), "jvp-band-in");
        const taking = partners.has(other);
        for (const cell of taking ? [at(other, i), this.v.get(other), this.y.get(other)] : []) mark(cell);
        if (!taking) [this.v.get(other), this.y.get(other)].forEach((cell) => mark(cell, "jvp-off"));
      }
      [this.x.get(i), this.results.get(i)].forEach((cell) => mark(cell));
    }
  }
}

function weightInput(problem, y, k, name) {
  const input = element("input");
  Object.assign(input, { type: "text", inputMode: "decimal", autocomplete: "off", spellcheck: false });
  input.setAttribute("aria-label", `${name}, weight of ${entryName(y, k)}`);
  if (y.v) showWeight(input, y.v[k]);
  if (!problem.editable(y)) input.readOnly = true;
  input.addEventListener("focus", () => input.select());
  input.addEventListener("input", () => {
    const number = parseNumber(input.value);
    input.toggleAttribute("data-wrong", number === null);
    input.setAttribute("aria-invalid", String(number === null));
    if (number !== null) problem.setWeights(y, [[k, number]]);
  });
  input.addEventListener("blur", () => y.v && showWeight(input, y.v[k]));
  return input;
}

function showWeight(input, weight) {
  if (input === input.getRootNode().activeElement && parseNumber(input.value) === weight) return; // being typed
  input.value = numberText(weight);
  input.removeAttribute("aria-invalid");
}

function gridOf(label, rows, stops = rows) {
  const grid = element("div", "jvp-sheet");
  grid.setAttribute("role", "grid");
  grid.setAttribute("aria-label", label);
  for (const cells of rows) {
    const row = element("div", "jvp-row");
    row.setAttribute("role", "row");
    row.append(...cells);
    grid.append(row);
  }
  roving(grid, stops.map((row) => row.map((cell) => cell.querySelector("input") ?? cell)));
  return grid;
}

const upTo = (count) => [...Array(count).keys()];

// Rows are entries of y with their v, columns entries of x, the result beneath: the sums can be followed by eye.
function matrixView(cells) {
  const { pair } = cells;
  const { m, n } = pair.J;
  const corner = [cells.blank(), cells.blank(pair.words.weight, pair.words.about)];
  const rows = [
    [...corner, ...upTo(n).map((i) => cells.input(i))],
    ...upTo(m).map((k) => [cells.output(k), cells.weight(k), ...upTo(n).map((i) => cells.entry(k, i))]),
    [cells.blank(wholeResult(pair)), cells.blank(`${pair.words.weight}ᵀ${pair.words.matrix}`), ...upTo(n).map((i) => cells.result(i))],
  ];
  rows.at(-1)[0].className = "jvp-cell jvp-label-in jvp-stick";
  rows[0][0].classList.add("jvp-stick");
  return gridOf(`∂${pair.y.name}/∂${pair.x.name}, flattened: ${m} rows of ${pair.words.weight} and Jacobian, ${n} columns, the result in the last row`, rows);
}

// Positions of an array laid out in two dimensions: the last axis to the right, all others downwards.
function laidOut(shape) {
  const columns = shape.length ? shape.at(-1) : 1;
  const rows = product(shape.slice(0, -1));
  return upTo(rows).map((r) => upTo(columns).map((c) => r * columns + c));
}

function card(name, ...content) {
  const made = element("div", "jvp-card");
  made.append(element("div", "jvp-name", name), ...content);
  return made;
}

// One slice for each entry of x, in the shape of y: v times the slice, added up, is that entry of the result.
function inputSlices(cells) {
  const { pair } = cells;
  const { y, x } = pair;
  const made = element("div", "jvp-cards");
  const shaped = (name, cellOf) => gridOf(name, laidOut(y.shape).map((row) => row.map(cellOf)));
  made.append(card(y.name, shaped(y.name, (k) => cells.output(k))));
  made.append(card(pair.words.weight, shaped(pair.words.weight, (k) => cells.weight(k))));
  for (const i of upTo(pair.J.n)) {
    const name = `∂${y.name}/∂${entryName(x, i)}`;
    const slice = shaped(`${name}, in the shape of ${y.name}`, (k) => cells.entry(k, i));
    made.append(card(name, slice, element("div", "jvp-name", `Σ ${pair.words.weight} · slice = ${resultName(pair, i)}`), gridOf(resultName(pair, i), [[cells.result(i)]])));
  }
  return made;
}

// One slice for each entry of y, in the shape of x: its gradient. The result is their sum, each times its v.
function outputSlices(cells) {
  const { pair } = cells;
  const { y, x } = pair;
  const made = element("div", "jvp-cards");
  const shaped = (name, cellOf) => gridOf(name, laidOut(x.shape).map((row) => row.map(cellOf)));
  for (const k of upTo(pair.J.m)) {
    const name = `∂${entryName(y, k)}/∂${x.name}`;
    const head = gridOf(`${entryName(y, k)} and its weight`, [[cells.output(k), cells.weight(k)]]);
    made.append(card(`${weightName(pair, k)} × ${name}`, head, shaped(`${name}, in the shape of ${x.name}`, (i) => cells.entry(k, i))));
  }
  made.append(card(x.name, shaped(x.name, (i) => cells.input(i))));
  made.append(card(`Σ of all = ${wholeResult(pair)}`, shaped(wholeResult(pair), (i) => cells.result(i))));
  return made;
}
