// What is said about the entry that is pointed at: an element for the live region.

const MOST_TERMS = 20;

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const entryName = (tensor, flat) => tensor.name + indexText(flat, tensor.shape);
const weightName = (pair, k) => `${pair.words.weight}${indexText(k, pair.y.shape)}`;
const derivativeName = (pair, k, i) => `∂${entryName(pair.y, k)}/∂${entryName(pair.x, i)}`;
const resultName = (pair, i) => `∂${pair.words.loss}/∂${entryName(pair.x, i)}`;
const wholeResult = (pair) => `∂${pair.words.loss}/∂${pair.x.name}`;

// A selection is {kind: "result" | "x" | "y" | "v" | "J", k, i}; k is an output's position, i an input's. Of a piece of a formula
// it is {kind: "light", at, name}: its number and its text.
function describe(pair, selection) {
  const { kind, k, i } = selection;
  if (kind === "light") return describePiece(pair, selection);
  if (kind === "J") return describeEntry(pair, k, i);
  return kind === "y" || kind === "v" ? describeRow(pair, k) : describeColumn(pair, i, kind);
}

function describeColumn(pair, i, kind) {
  const made = document.createDocumentFragment();
  const column = pair.J.column(i);
  const line = element("div", "jvp-num");
  if (kind === "x") {
    const value = pair.x.value ? ` = ${numberText(pair.x.value.at(i))}` : "";
    made.append(element("div", "", `${entryName(pair.x, i)}${value}: its column says how ${pair.y.name} moves when it moves.`));
  }
  const terms = pair.followable ? column.filter(([k, entry]) => !isZero(mul(pair.y.v[k], entry))) : [];
  line.append(element("span", "jvp-total", resultName(pair, i)), " = ");
  if (!pair.followable) line.append("not held in this page");
  else if (!terms.length) line.append("0");
  else
    line.append(
      ...sumOf(terms.map(([k, entry]) => [entryName(pair.y, k), `${factorText(pair.y.v[k])}·${factorText(entry)}`])),
      " = ",
      element("span", "jvp-total", numberText(pair.result[i])),
    );
  made.append(line);
  const note = terms.length
    ? `${grouped(terms.length)} of ${plural(pair.J.m, "term")} ${terms.length === 1 ? "is" : "are"} not zero; each is ${pair.words.weight} times ∂${pair.y.name}/∂${entryName(pair.x, i)}.`
    : pair.followable
      ? "Every term is zero."
      : "";
  made.append(element("div", "jvp-quiet", note));
  return made;
}

function describeRow(pair, k) {
  const made = document.createDocumentFragment();
  const row = pair.J.row(k);
  const line = element("div", "jvp-num");
  const value = pair.y.value ? ` = ${numberText(pair.y.value.at(k))}` : "";
  const weight = pair.y.v ? `, weight ${weightName(pair, k)} = ${numberText(pair.y.v[k])}` : "";
  line.append(element("span", "jvp-out", entryName(pair.y, k)), `${value}${weight}`);
  made.append(line);
  const gradient = element("div", "jvp-num");
  gradient.append("Its row, the gradient of this entry: ");
  const shown = row.slice(0, MOST_TERMS).map(([i, entry]) => `∂/∂${entryName(pair.x, i)} = ${numberText(entry)}`);
  gradient.append(shown.join(", ") || "all zero");
  if (row.length > shown.length) gradient.append(`, … (${grouped(row.length - shown.length)} more)`);
  else if (row.length && row.length < pair.J.n) gradient.append("; the others are zero");
  made.append(gradient);
  return made;
}

function describeEntry(pair, k, i) {
  const made = document.createDocumentFragment();
  const entry = pair.J.at(k, i);
  const line = element("div", "jvp-num");
  line.append(`${derivativeName(pair, k, i)} = ${numberText(entry)}`);
  const [y, x] = [entryName(pair.y, k), entryName(pair.x, i)];
  const meaning = isZero(entry)
    ? `${y} does not change with ${x} here: nothing goes into ${resultName(pair, i)}.`
    : `Move ${x} by a little ε and ${y} moves by ${factorText(entry)}·ε.`;
  made.append(line, element("div", "jvp-quiet", meaning));
  if (pair.followable && !isZero(entry)) {
    const weight = pair.y.v[k];
    const term = `${factorText(weight)}·${factorText(entry)} = ${numberText(mul(weight, entry))}`;
    made.append(element("div", "jvp-num", `It enters ${resultName(pair, i)} as ${weightName(pair, k)}·${derivativeName(pair, k, i)} = ${term}`));
  }
  return made;
}

function describePiece(pair, { at, name }) {
  const made = document.createDocumentFragment();
  const [light, size] = [pair.lights[at], pair.J.m * pair.J.n];
  let count = 0;
  for (let entry = 0; entry < size; entry++) count += light.at(entry);
  made.append(element("div", "jvp-num", name));
  made.append(element("div", "jvp-quiet", `It is about ${grouped(count)} of ${size === 1 ? "1 entry" : `${grouped(size)} entries`} of ∂${pair.y.name}/∂${pair.x.name}.`));
  return made;
}

// Terms joined by plus signs; each is labelled with the entry that it comes from.
function sumOf(terms) {
  const parts = [];
  for (const [of, text] of terms.slice(0, MOST_TERMS)) {
    if (parts.length) parts.push(" + ");
    const term = element("span", "jvp-term", text);
    term.dataset.of = of;
    parts.push(term);
  }
  if (terms.length > MOST_TERMS) parts.push(` + … (${grouped(terms.length - MOST_TERMS)} more terms)`);
  return parts;
}
