// Brings every report on the page to life that is not alive yet (a notebook holds several, each with this script).

function start(root) {
  const data = JSON.parse(root.querySelector(".jvp-data").textContent);
  if (data.kind === "trace") startTrace(root, data);
  else startInspect(root, data);
}

function startInspect(root, data) {
  const problem = new Problem(data);
  const { weight } = problem.words;
  for (const place of root.querySelectorAll(".jvp-explorer")) {
    const open = () => place.childElementCount || new Explorer(problem, problem.pairs[place.dataset.pair], place);
    const details = place.closest("details");
    if (!details || details.open) open();
    else details.addEventListener("toggle", open);
  }
  for (const link of root.querySelectorAll(".jvp-nav a")) link.addEventListener("click", () => unfold(root, link));
  const totals = () => {
    for (const place of root.querySelectorAll("[data-total]")) showTotal(problem.inputs.get(place.dataset.total), place, problem);
    root.querySelector("[data-loss]").textContent = lossText(problem);
  };
  problem.onChange(() => {
    root.querySelector("[data-agreement]").textContent = `${weight} was edited: these are ${weight} times the Jacobian, computed in this page.`;
    totals();
  });
  root.querySelector("[data-loss]").textContent = lossText(problem);
}

function lossText(problem) {
  const [loss, { weight, loss: name, output }] = [problem.loss(), problem.words];
  return loss === null ? "" : `${name} = ⟨${weight}, ${output}⟩ = ${numberText(loss)}, the scalar whose gradient this is.`;
}

function showTotal(x, place, problem) {
  const total = problem.total(x);
  place.textContent = total ? arrayText((i) => total.at(i), x.shape) : "(not held in this page)";
}

function unfold(root, link) {
  const details = root.querySelector(`#${CSS.escape(link.hash.slice(1))} details`);
  if (details) details.open = true;
}

for (const root of document.querySelectorAll(".jvp:not([data-live])")) {
  root.dataset.live = "";
  start(root);
}
