// Pointer, wheel and pinch on the canvas.
class Gestures {
  constructor(heat) {
    Object.assign(this, { heat, pointers: new Map(), dragged: false });
    const { canvas } = heat;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => this.#up(event));
    canvas.addEventListener("dblclick", (event) => heat.zoom(0.5, this.#entry(event)));
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  // The place under a pointer, in entries.
  #entry(event) {
    const { left, width, height } = this.heat.layout;
    const { k0, k1, i0, i1 } = this.heat.window;
    return [k0 + (event.offsetY / height) * (k1 - k0), i0 + ((event.offsetX - left) / width) * (i1 - i0)];
  }

  #down(event) {
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (event.isTrusted) this.heat.canvas.setPointerCapture(event.pointerId);
    this.dragged = false;
    this.from = { ...this.heat.window, at: [event.offsetX, event.offsetY] };
    this.spread = this.#spread();
  }

  #move(event) {
    const { heat } = this;
    if (!heat.layout || !heat.picture) return;
    if (!this.pointers.has(event.pointerId)) {
      const hit = heat.hit(event.offsetX, event.offsetY);
      if (hit) heat.point(hit, false);
      return;
    }
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 2) {
      const spread = this.#spread();
      if (Math.abs(spread / this.spread - 1) > 0.15) {
        heat.zoom(this.spread / spread, this.#entry(event));
        this.spread = spread;
      }
      this.dragged = true;
      return;
    }
    const [dx, dy] = [event.offsetX - this.from.at[0], event.offsetY - this.from.at[1]];
    if (!this.dragged && Math.hypot(dx, dy) < 5) return;
    this.dragged = true;
    const { width, height } = heat.layout;
    const { k0, k1, i0, i1 } = this.from;
    heat.moveTo(k0 - (dy / height) * (k1 - k0), i0 - (dx / width) * (i1 - i0));
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    if (this.dragged || event.type === "pointercancel" || !this.heat.picture) return;
    const hit = this.heat.hit(event.offsetX, event.offsetY);
    if (hit) this.heat.point(hit, true);
  }

  #spread() {
    const [a, b] = [...this.pointers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  }

  // Plain scrolling scrolls the page, unless the canvas has the focus; with Ctrl (and a pinch of a touchpad) it zooms.
  #wheel(event) {
    const focused = this.heat.canvas === this.heat.canvas.getRootNode().activeElement;
    if (!focused && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    this.heat.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.#entry(event));
  }
}
