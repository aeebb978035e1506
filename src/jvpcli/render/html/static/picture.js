// What is drawn of a large Jacobian: its entries or blocks, as an image of dots, and vectors as strips.

const WIDEST = 640; // dots across

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
    paper: resolved("paper"),
  };
  probe.remove();
  return colours;
}
