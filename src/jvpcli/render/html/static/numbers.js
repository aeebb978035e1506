// Numbers: real ones are JavaScript's, complex ones {re, im}; arrays come as base64 of typed arrays.

const isComplex = (a) => typeof a === "object";
const add = (a, b) => (isComplex(a) || isComplex(b) ? complex(re(a) + re(b), im(a) + im(b)) : a + b);
const mul = (a, b) =>
  isComplex(a) || isComplex(b)
    ? complex(re(a) * re(b) - im(a) * im(b), re(a) * im(b) + im(a) * re(b))
    : a * b;
const re = (a) => (isComplex(a) ? a.re : a);
const im = (a) => (isComplex(a) ? a.im : 0);
const complex = (real, imaginary) => ({ re: real, im: imaginary });
const magnitude = (a) => (isComplex(a) ? Math.hypot(a.re, a.im) : Math.abs(a));
const isZero = (a) => (isComplex(a) ? a.re === 0 && a.im === 0 : a === 0); // NaN is not zero
const isNegative = (a) => !isComplex(a) && a < 0;

const ARRAYS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
const LONGEST = 65536; // entries of v up to which it can be edited
const EXPANDED = 1 << 20;

// An array of a page: something with `length` and `at(i)`; null where the page holds none.
function decode(packed) {
  if (!packed) return null;
  if (packed.imaginary) {
    const [real, imaginary] = [decode({ ...packed, imaginary: null }), decode(packed.imaginary)];
    return { length: real.length, at: (i) => complex(real.at(i), imaginary.at(i)) };
  }
  if ("fill" in packed) {
    if (packed.count > EXPANDED) return { length: packed.count, at: () => packed.fill };
    return new Float64Array(packed.count).fill(packed.fill);
  }
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return new ARRAYS[packed.type](bytes.buffer);
}

const copyOf = (array) => (array && array.length <= LONGEST ? Array.from({ length: array.length }, (_, i) => array.at(i)) : null);

// At most five significant digits, as in the text output: 20, 0.3333, 1.2e-07, nan.
function numberText(a) {
  if (isComplex(a)) {
    const imaginary = numberText(a.im);
    return `${numberText(a.re)}${imaginary.startsWith("-") ? "" : "+"}${imaginary}j`;
  }
  if (Number.isNaN(a)) return "nan";
  if (!Number.isFinite(a)) return a > 0 ? "inf" : "-inf";
  if (a === 0) return "0";
  const [digits, power] = a.toExponential(4).split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 5) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${trimmed(digits)}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  return trimmed(a.toFixed(4 - exponent));
}

const trimmed = (digits) => (digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits);

// A factor of a written-out product: negative and complex ones in parentheses.
function factorText(a) {
  const text = numberText(a);
  return text.startsWith("-") || isComplex(a) ? `(${text})` : text;
}

// The number that a person typed, or null.
function parseNumber(text) {
  const word = text.trim().toLowerCase().replace("−", "-");
  const words = { nan: NaN, inf: Infinity, "+inf": Infinity, "-inf": -Infinity };
  if (word in words) return words[word];
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/.test(word) ? Number(word) : null;
}

// [1,2] for the row-major position of an entry; nothing for a 0-d array.
function indexText(flat, shape) {
  if (!shape.length) return "";
  const index = [];
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index.unshift(flat % shape[axis]);
    flat = Math.floor(flat / shape[axis]);
  }
  return `[${index.join(",")}]`;
}

const dotted = (text) => (/^-?\d+$/.test(text) ? `${text}.` : text);
const product = (shape) => shape.reduce((a, b) => a * b, 1);
const grouped = (n) => n.toLocaleString("en-US");
const plural = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;

// An array as PyTorch prints it, the middle of a long one left out.
function arrayText(at, shape, most = 200) {
  const size = product(shape);
  const inner = (start, axes) => {
    if (!axes.length) return dotted(numberText(at(start)));
    const step = product(axes.slice(1));
    const count = axes[0];
    const shown = size > most && count > 8 ? [0, 1, 2, 3, -1, count - 4, count - 3, count - 2, count - 1] : [...Array(count).keys()];
    const parts = shown.map((k) => (k < 0 ? "…" : inner(start + k * step, axes.slice(1))));
    return `[${parts.join(axes.length > 1 ? `,${"\n".repeat(axes.length - 1)}${" ".repeat(shape.length - axes.length + 1)}` : ", ")}]`;
  };
  return inner(0, shape);
}
