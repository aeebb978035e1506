// Asks the server as one types, keeps the last answer until the next is there, and holds the question in the address.

const DELAY = 300; // milliseconds without a key before it is asked
const { examples, fields } = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const [form, expression, rows, answer, failure, status, locked] = ["question", "expression", "rows", "answer", "failure", "status", "locked"].map(at);
const mirror = document.querySelector(".play-mirror");
const TOKEN = "jvp-token";

let asked = null; // what the answer on its way, or the last one, was asked for
let controller = null;
let timer = 0;

// The form: a question as plain data, and back

function question() {
  const inputs = {};
  for (const row of rows.children) {
    const [name, value] = [...row.querySelectorAll("input")].map((field) => field.value.trim());
    if (name) inputs[name] = value;
  }
  const command = form.elements.command.value;
  const given = { command, expression: expression.value, inputs };
  for (const name of ["v", "u", "wrt", "dtype"]) if (at(name).value.trim()) given[name] = at(name).value.trim();
  return given;
}

function show(given) {
  form.elements.command.value = fields[given.command] ? given.command : "inspect";
  expression.value = given.expression || "";
  rows.replaceChildren();
  for (const [name, value] of Object.entries(given.inputs || {})) addRow(name, value);
  for (const name of ["v", "u", "wrt", "dtype"]) at(name).value = given[name] || "";
  settle();
}

function addRow(name, value) {
  const row = document.createElement("div");
  row.className = "play-input";
  const number = rows.childElementCount + 1;
  const [nameField, valueField] = [["name", name], ["value", value]].map(([what, text]) => {
    const field = document.createElement("input");
    Object.assign(field, { value: text, spellcheck: false, className: `play-${what}`, placeholder: what });
    field.setAttribute("autocapitalize", "off");
    field.setAttribute("aria-label", `${what === "name" ? "Name" : "Value"} of input ${number}`);
    return field;
  });
  const remove = document.createElement("button");
  Object.assign(remove, { type: "button", textContent: "×", className: "play-remove" });
  remove.setAttribute("aria-label", `Remove input ${number}`);
  remove.addEventListener("click", () => {
    row.remove();
    at("add").focus();
    changed();
  });
  row.append(nameField, "=", valueField, remove);
  rows.append(row);
  return row;
}

function settle() {
  for (const area of form.querySelectorAll("textarea")) {
    area.rows = Math.min(12, area.value.split("\n").length);
  }
  const known = fields[form.elements.command.value];
  at("u").disabled = !known.includes("tangent");
}

// The address: #c=inspect&e=…&x.NAME=VALUE&v=…

function toAddress(given) {
  const words = new URLSearchParams({ c: given.command, e: given.expression });
  for (const [name, value] of Object.entries(given.inputs)) words.append(`x.${name}`, value);
  for (const name of ["v", "u", "wrt", "dtype"]) if (given[name]) words.append(name, given[name]);
  return `#${words}`;
}

function fromAddress(hash) {
  const words = new URLSearchParams(hash.slice(1));
  if (words.has("token")) localStorage.setItem(TOKEN, words.get("token"));
  if (!words.has("e")) return null;
  const inputs = {};
  for (const [key, value] of words) if (key.startsWith("x.")) inputs[key.slice(2)] = value;
  const given = { command: words.get("c"), expression: words.get("e"), inputs };
  for (const name of ["v", "u", "wrt", "dtype"]) if (words.has(name)) given[name] = words.get(name);
  return given;
}

// Asking

// A VALUE, or one for each name where every line is NAME=VALUE.
function weights(text) {
  const lines = text.split("\n").filter((line) => line.trim());
  const named = lines.map((line) => /^\s*([\p{L}_][\p{L}\d_]*)\s*=(?!=)(.*)$/u.exec(line));
  return named.every(Boolean) ? Object.fromEntries(named.map(([, name, value]) => [name, value.trim()])) : text;
}

function body(given) {
  const known = fields[given.command];
  const asking = { expression: given.expression, inputs: given.inputs };
  if (given.v && known.includes("grad_outputs")) asking.grad_outputs = weights(given.v);
  if (given.u && known.includes("tangent")) asking.tangent = weights(given.u);
  if (given.wrt) asking.wrt = given.wrt.split(",");
  if (given.dtype) asking.dtype = given.dtype;
  return JSON.stringify(asking);
}

function changed() {
  settle();
  unmark();
  clearTimeout(timer);
  timer = setTimeout(ask, DELAY);
}

async function ask() {
  clearTimeout(timer);
  const given = question();
  if (!given.expression.trim()) return;
  history.replaceState(null, "", toAddress(given));
  document.title = `${given.expression.slice(0, 60)} · jvp ${given.command}`;
  controller?.abort();
  const mine = (controller = new AbortController());
  asked = given;
  answer.setAttribute("aria-busy", "true");
  status.textContent = "computing…";
  const begun = performance.now();
  try {
    const response = await fetch(`/page/${given.command}`, {
      method: "POST", body: body(given), signal: mine.signal, cache: "no-store", credentials: "omit",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${localStorage.getItem(TOKEN) || ""}` },
    });
    const found = await response.json();
    if (mine !== controller) return;
    lock(response.status === 401);
    if (response.status === 503) return again(Number(response.headers.get("Retry-After")) || 1, "the server is busy");
    if (found.ok) answered(found.html, given, performance.now() - begun);
    else failed(found, given);
  } catch (error) {
    if (mine === controller && error.name !== "AbortError") again(2, "the server does not answer");
  }
}

function again(seconds, why) {
  status.textContent = `${why}; it is asked again in ${seconds} s`;
  timer = setTimeout(ask, 1000 * seconds);
}

// A report's script is one that the policy knows: as an element made anew it runs, while nothing else could.
function answered(html, given, milliseconds) {
  failure.hidden = true;
  failure.replaceChildren();
  const place = document.createElement("template");
  place.innerHTML = html;
  const scripts = [...place.content.querySelectorAll("script:not([type])")].map((old) => {
    const fresh = document.createElement("script");
    fresh.textContent = old.textContent;
    old.remove();
    return fresh;
  });
  answer.replaceChildren(place.content);
  answer.append(...scripts);
  answer.removeAttribute("aria-busy");
  answer.dataset.command = given.command;
  status.textContent = `answered in ${Math.round(milliseconds)} ms`;
}

function failed(found, given) {
  answer.removeAttribute("aria-busy");
  failure.innerHTML = found.html || "";
  if (!found.html) failure.append(Object.assign(document.createElement("p"), { textContent: found.error.message }));
  failure.hidden = false;
  status.textContent = answer.childElementCount ? "the answer below is to the question before" : "";
  const span = found.error.span;
  if (!span || found.source !== given.expression) return;
  mark(given.expression, span);
  const guilty = [...given.expression].slice(...span).join("");
  if (found.error.code === "unknown_name" && /^[\p{L}_][\p{L}\d_]*$/u.test(guilty) && !(guilty in given.inputs)) offer(guilty);
}

// Spans count characters, as Python does; JavaScript counts in units of UTF-16.
function mark(text, [start, end]) {
  const characters = [...text];
  const guilty = document.createElement("mark");
  guilty.textContent = characters.slice(start, Math.max(end, start + 1)).join("") || " ";
  mirror.replaceChildren(characters.slice(0, start).join(""), guilty);
  expression.setAttribute("aria-invalid", "true");
}

function unmark() {
  mirror.replaceChildren();
  expression.removeAttribute("aria-invalid");
}

function offer(name) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: `Add ${name} as an input` });
  button.addEventListener("click", () => {
    addRow(name, "1,2,3").querySelector(".play-value").select();
    changed();
  });
  failure.append(button);
}

function lock(is) {
  locked.hidden = !is;
  if (is) at("token").focus();
}

// What happens

form.addEventListener("input", changed);
form.addEventListener("change", (event) => event.target.type === "radio" && ask());
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("keydown", (event) => {
  const asks = event.key === "Enter" && (event.ctrlKey || event.metaKey || event.target.tagName === "INPUT");
  if (asks) {
    event.preventDefault();
    ask();
  }
});
at("add").addEventListener("click", () => addRow("", "").querySelector("input").focus());
at("examples").addEventListener("change", (event) => {
  const example = examples[event.target.value];
  if (!example) return;
  show(example);
  unmark();
  ask();
});
locked.addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(TOKEN, at("token").value.trim());
  at("token").value = "";
  ask();
});
answer.addEventListener("click", (event) => {
  const link = event.target.closest(".jvp-nav a");
  if (!link) return;
  event.preventDefault(); // the address is the question's
  at(link.hash.slice(1))?.scrollIntoView();
});
expression.addEventListener("scroll", () => (mirror.scrollTop = expression.scrollTop));
addEventListener("hashchange", () => {
  const given = fromAddress(location.hash);
  if (given) show(given), unmark(), ask();
});

show(fromAddress(location.hash) || examples[0]);
ask();
