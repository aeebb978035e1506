// The chain rule step by step: which boxes and edges of the graph are lit, and which panel is shown.

class Trace {
  constructor(root, data) {
    Object.assign(this, { root, data, at: 0 });
    this.bar = root.querySelector(".jvp-steps");
    this.slider = this.bar.querySelector("input");
    this.where = this.bar.querySelector(".jvp-where");
    this.slider.max = data.frames.length - 1;
    this.bar.hidden = false;
    root.classList.add("jvp-stepping");
    const go = { first: () => 0, back: () => this.at - 1, next: () => this.at + 1, last: () => data.frames.length - 1 };
    for (const button of this.bar.querySelectorAll("button"))
      button.addEventListener("click", () => this.show(go[button.dataset.go]()));
    this.slider.addEventListener("input", () => this.show(Number(this.slider.value)));
    for (const node of root.querySelectorAll("[data-node]")) node.addEventListener("click", () => this.#open(node.dataset.node));
    root.querySelector(".jvp-graph")?.addEventListener("keydown", (event) => this.#key(event));
    this.show(0);
  }

  #key(event) {
    const moves = { ArrowRight: this.at + 1, ArrowLeft: this.at - 1, Home: 0, End: this.data.frames.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.show(moves[event.key]);
  }

  // A click on a box shows it in the pass that is under way.
  #open(key) {
    const way = this.data.frames[this.at].way === "forward" ? "forward" : "backward";
    const fits = (frame) => frame.show === key || (key.startsWith("input") && frame.show === (way === "forward" ? "inputs" : "result"));
    const frame = this.data.frames.findIndex((f) => fits(f) && (f.way === way || key.startsWith("input")));
    if (frame >= 0) this.show(frame);
  }

  show(at) {
    const { frames } = this.data;
    this.at = Math.max(0, Math.min(frames.length - 1, at));
    const frame = frames[this.at];
    this.slider.value = this.at;
    const [first, last] = [this.at === 0, this.at === frames.length - 1];
    for (const button of this.bar.querySelectorAll("button"))
      button.disabled = ["first", "back"].includes(button.dataset.go) ? first : last;
    for (const panel of this.root.querySelectorAll("[data-panel]")) panel.hidden = panel.dataset.panel !== frame.show;
    this.root.dataset.way = frame.way;
    this.#light(frame);
    this.#say(frame);
  }

  #light(frame) {
    const past = this.data.frames.slice(0, this.at + 1);
    const seen = new Set(past.flatMap((f) => f.on));
    const arrived = new Set(past.filter((f) => f.way !== "forward").flatMap((f) => f.on));
    // A step that has been gone through backwards has handed its cotangent on: what it reached shows it.
    const done = new Set(past.filter((f) => f.way === "backward" && f.show.startsWith("step")).map((f) => f.show));
    const waiting = new Map();
    for (const [source, target, passes] of this.data.edges)
      if (passes) waiting.set(source, (waiting.get(source) ?? true) && done.has(target));
    for (const [source, complete] of waiting) if (complete) arrived.add(source);
    for (const node of this.root.querySelectorAll("[data-node]")) {
      const key = node.dataset.node;
      node.classList.toggle("jvp-lit", frame.on.includes(key));
      node.classList.toggle("jvp-seen", seen.has(key));
      node.classList.toggle("jvp-arrived", arrived.has(key));
    }
    this.data.edges.forEach(([source, target, passes], number) => {
      const edge = this.root.querySelector(`[data-edge="${number}"]`);
      const forward = frame.way === "forward" && frame.on.includes(target);
      const backward = frame.way === "backward" && passes && frame.show === target;
      edge.classList.toggle("jvp-lit", forward || backward);
      edge.classList.toggle("jvp-up", passes && done.has(target));
      edge.removeAttribute("marker-start");
      edge.removeAttribute("marker-end");
      if (forward) edge.setAttribute("marker-end", `url(#${this.root.id}-forward)`);
      if (backward || (passes && done.has(target))) edge.setAttribute("marker-start", `url(#${this.root.id}-backward)`);
    });
    this.#follow(frame.on[0]);
  }

  // Keeps the box that is lit in sight, inside the graph's own window only.
  #follow(key) {
    const graph = this.root.querySelector(".jvp-graph");
    const node = key && graph?.querySelector(`[data-node="${key}"]`);
    if (!node) return;
    const [box, frame] = [node.getBoundingClientRect(), graph.getBoundingClientRect()];
    const top = graph.scrollTop + box.top - frame.top - (frame.height - box.height) / 2;
    const left = graph.scrollLeft + box.left - frame.left - (frame.width - box.width) / 2;
    graph.scrollTo({ top, left });
  }

  #say(frame) {
    const panel = this.root.querySelector(`[data-panel="${frame.show}"]`);
    const { frames } = this.data;
    const ofWay = frames.filter((f) => f.way === frame.way && f.show.startsWith("step"));
    const number = ofWay.indexOf(frame) + 1;
    const names = { forward: "Forward", backward: "Backward" };
    const title = panel.dataset.title ?? panel.querySelector(".jvp-h").textContent.trim();
    this.where.textContent = number ? `${names[frame.way]} ${number} of ${ofWay.length}: ${title}` : title;
  }
}

const startTrace = (root, data) => new Trace(root, data);
