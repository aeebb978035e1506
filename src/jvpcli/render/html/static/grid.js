// A grid of cells in the ARIA sense: one tab stop, arrow keys inside.

// `rows` are arrays of elements (the cells, or an input inside one); the returned function moves the tab stop.
function roving(grid, rows) {
  const places = new Map();
  rows.forEach((row, r) => row.forEach((cell, c) => places.set(cell, [r, c])));
  for (const cell of places.keys()) cell.tabIndex = -1;
  let current = rows.find((row) => row.length)?.[0];
  if (current) current.tabIndex = 0;

  const settle = (cell) => {
    current.tabIndex = -1;
    current = cell;
    current.tabIndex = 0;
  };
  grid.addEventListener("focusin", (event) => places.has(event.target) && settle(event.target));
  grid.addEventListener("keydown", (event) => {
    if (!places.has(event.target) || event.altKey || event.metaKey) return;
    const [r, c] = places.get(event.target);
    const target = destination(event, rows, r, c);
    if (!target) return;
    event.preventDefault();
    if (target === event.target) return;
    target.focus();
    if (target.select) target.select();
  });
}

function destination(event, rows, r, c) {
  const last = rows.length - 1;
  const end = (row) => rows[row].length - 1;
  const at = (row, column) => rows[row]?.[Math.max(0, Math.min(column, end(row)))];
  const typing = event.target.tagName === "INPUT" && !event.target.readOnly;
  switch (event.key) {
    case "ArrowUp": return at(Math.max(0, r - 1), c);
    case "ArrowDown": return at(Math.min(last, r + 1), c);
    case "Enter": return typing ? at(Math.min(last, r + 1), c) : null;
    case "PageUp": return at(0, c);
    case "PageDown": return at(last, c);
    case "ArrowLeft": return typing && !atEdge(event.target, "start") ? null : at(r, c - 1);
    case "ArrowRight": return typing && !atEdge(event.target, "end") ? null : at(r, c + 1);
    case "Home": return typing && !event.ctrlKey ? null : at(event.ctrlKey ? 0 : r, 0);
    case "End": return typing && !event.ctrlKey ? null : at(event.ctrlKey ? last : r, Infinity);
    default: return null;
  }
}

// Whether the caret can go no further inside the input, so that an arrow leaves it; true also while all is selected.
function atEdge(input, side) {
  const { selectionStart: from, selectionEnd: to, value } = input;
  if (from === 0 && to === value.length) return true;
  return from === to && (side === "start" ? from === 0 : to === value.length);
}
