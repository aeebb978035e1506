// The problem that a page shows: outputs with their v, inputs with their result, and the Jacobians between them.

// A flattened Jacobian of m output entries by n input entries: `nonzeros` of a row or column as [other index, number].
class Dense {
  constructor(pair, m, n) {
    Object.assign(this, { m, n, values: decode(pair.values) });
  }
  at(k, i) {
    return this.values.at(k * this.n + i);
  }
  row(k) {
    return this.#line(this.n, (i) => this.at(k, i));
  }
  column(i) {
    return this.#line(this.m, (k) => this.at(k, i));
  }
  #line(length, at) {
    const found = [];
    for (let other = 0; other < length; other++) if (!isZero(at(other))) found.push([other, at(other)]);
    return found;
  }
  forEach(visit, first = 0, last = this.m) {
    for (let k = first; k < last; k++)
      for (let i = 0; i < this.n; i++) {
        const entry = this.values.at(k * this.n + i);
        if (!isZero(entry)) visit(k, i, entry);
      }
  }
  pullback(v) {
    const result = new Array(this.n).fill(0);
    for (let k = 0; k < this.m; k++)
      for (let i = 0; i < this.n; i++) result[i] = add(result[i], mul(v[k], this.at(k, i)));
    return result;
  }
}

class Sparse {
  constructor(pair, m, n) {
    const counts = decode(pair.counts);
    this.starts = new Uint32Array(m + 1);
    for (let k = 0; k < m; k++) this.starts[k + 1] = this.starts[k] + counts.at(k);
    Object.assign(this, { m, n, cols: decode(pair.cols), values: decode(pair.values) });
  }
  at(k, i) {
    let [low, high] = [this.starts[k], this.starts[k + 1]];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.cols.at(middle) < i) low = middle + 1;
      else high = middle;
    }
    return low < this.starts[k + 1] && this.cols.at(low) === i ? this.values.at(low) : 0;
  }
  row(k) {
    const found = [];
    for (let e = this.starts[k]; e < this.starts[k + 1]; e++) found.push([this.cols.at(e), this.values.at(e)]);
    return found;
  }
  column(i) {
    const found = [];
    for (let k = 0; k < this.m; k++) {
      const entry = this.at(k, i);
      if (!isZero(entry)) found.push([k, entry]);
    }
    return found;
  }
  forEach(visit, first = 0, last = this.m) {
    for (let k = first; k < last; k++)
      for (let e = this.starts[k]; e < this.starts[k + 1]; e++) visit(k, this.cols[e] ?? this.cols.at(e), this.values.at(e));
  }
  pullback(v) {
    const result = new Array(this.n).fill(0);
    this.forEach((k, i, entry) => (result[i] = add(result[i], mul(v[k], entry))));
    return result;
  }
}

// A Jacobian too large for the page: the largest entry of each block of a height × width picture, nothing else.
class Blocks {
  constructor(pair, m, n) {
    Object.assign(this, { m, n, height: pair.height, width: pair.width, values: decode(pair.values) });
  }
}

// A name that is written from right to left, kept from turning round what stands beside it.
const isolated = (name) => (/[\u0590-\u08ff\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc]/.test(name) ? `\u2068${name}\u2069` : name);

class Problem {
  constructor(data) {
    this.outputs = new Map();
    for (const [name, y] of Object.entries(data.outputs)) {
      const given = decode(y.v);
      this.outputs.set(name, { name: isolated(name), shape: y.shape, size: product(y.shape), value: decode(y.value), given, v: copyOf(given) });
    }
    this.inputs = new Map();
    for (const [name, x] of Object.entries(data.inputs))
      this.inputs.set(name, { name: isolated(name), shape: x.shape, size: product(x.shape), value: decode(x.value), given: decode(x.result) });
    this.words = data.words;
    this.pairs = data.pairs.map((pair) => this.#pair(pair));
    this.edited = false;
    this.listeners = [];
  }

  #pair(pair) {
    const [y, x] = [this.outputs.get(pair.y), this.inputs.get(pair.x)];
    const kind = { dense: Dense, csr: Sparse, map: Blocks }[pair.format];
    const J = kind ? new kind(pair, y.size, x.size) : null;
    const followable = J !== null && kind !== Blocks && y.v !== null && pair.exact !== false;
    const made = { ...pair, words: this.words, y, x, J, followable, editable: pair.editable && followable, result: null };
    if (followable) made.result = J.pullback(y.v);
    made.lights = (pair.lights ?? []).map(decode); // for each piece of the formula: 1 for the entries that it is about
    return made;
  }

  // Whether every result that y takes part in can be computed here.
  editable(y) {
    const pairs = this.pairs.filter((pair) => pair.y === y);
    return pairs.length > 0 && pairs.every((pair) => pair.editable);
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  // `weights` are the [position, number] that change.
  setWeights(y, weights) {
    for (const [k, number] of weights) y.v[k] = number;
    this.edited = true;
    for (const pair of this.pairs) if (pair.y === y && pair.followable) pair.result = pair.J.pullback(y.v);
    for (const listener of this.listeners) listener(y);
  }

  fill(y, weight) {
    this.setWeights(y, y.v.map((_, k) => [k, weight(k)]));
  }

  // ∂L/∂x: as the report has it until v is edited, then the sum of what each output contributes; null if unknown.
  total(x) {
    if (!this.edited) return x.given;
    const parts = this.pairs.filter((pair) => pair.x === x && pair.y.given);
    if (parts.some((pair) => !pair.followable)) return null;
    return parts.map((pair) => pair.result).reduce((a, b) => a.map((entry, i) => add(entry, b[i])));
  }

  // L = ⟨v, y⟩, or null where v or y is not held.
  loss() {
    let total = 0;
    for (const y of this.outputs.values()) {
      if (!y.given) continue;
      if (!y.v || !y.value) return null;
      y.v.forEach((weight, k) => (total = add(total, mul(weight, y.value.at(k)))));
    }
    return isComplex(total) ? null : total;
  }
}
