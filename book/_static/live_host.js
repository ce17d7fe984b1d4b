// Runs the book's live figures on a page without a kernel: it reads the widget state stored in the notebook and calls each
// figure's own render({model, el}) with a model that lives in the page. No CDN, no RequireJS. A control that needs the
// kernel is shown as its recorded picture, with a sentence that says so.
(() => {
  const STATE = "application/vnd.jupyter.widget-state+json", VIEW = "application/vnd.jupyter.widget-view+json";

  class Model {
    constructor(state, widget_manager) { Object.assign(this, { state: { ...state }, widget_manager, listeners: {}, changed: false }); }
    get(name) { return this.state[name]; }
    set(name, value) {
      if (this.state[name] === value) return;
      this.state[name] = value;
      this.changed = true;
      this.tell(`change:${name}`, value);
    }
    save_changes() { if (this.changed) { this.changed = false; this.tell("change"); } }
    on(names, listener) { for (const name of names.split(" ")) (this.listeners[name] ??= []).push(listener); }
    off(name, listener) {
      if (!name) this.listeners = {};
      else this.listeners[name] = (this.listeners[name] ?? []).filter((f) => listener && f !== listener);
    }
    tell(name, ...values) { for (const f of this.listeners[name] ?? []) f(...values); }
    send() {} // nobody listens
  }

  // The picture among the children of a widget that needs the kernel
  function recorded(all, id) {
    const record = all[id];
    if (record?.model_name === "HTMLModel") {
      const holder = document.createElement("div");
      holder.innerHTML = record.state.value;
      return holder.querySelector("img");
    }
    for (const child of record?.state.children ?? []) {
      const found = recorded(all, child.replace("IPY_MODEL_", ""));
      if (found) return found;
    }
    return null;
  }

  function needsKernel(all, id) {
    const box = document.createElement("div"), sentence = document.createElement("p"), picture = recorded(all, id);
    box.className = "advlab-recorded";
    if (picture) box.append(picture);
    sentence.textContent = picture
      ? "A recorded picture: its controls need a running kernel. Open the notebook in JupyterLab to move them."
      : "This control needs a running kernel: open the notebook in JupyterLab.";
    box.append(sentence);
    return box;
  }

  async function live(record, model, modules) {
    const address = URL.createObjectURL(new Blob([record.state._esm], { type: "text/javascript" }));
    const loaded = await (modules[record.state._esm] ??= import(address));
    const figure = typeof loaded.default === "function" ? await loaded.default() : loaded.default;
    const el = document.createElement("div");
    await figure.initialize?.({ model });
    await figure.render({ model, el });
    return el;
  }

  async function main() {
    const tag = document.querySelector(`script[type="${STATE}"]`);
    if (!tag) return;
    const all = JSON.parse(tag.textContent).state, models = {}, modules = {};
    const manager = { get_model: async (id) => (models[id] ??= new Model(all[id].state, manager)) }; // what figures share, too
    for (const view of document.querySelectorAll(`script[type="${VIEW}"]`)) {
      const id = JSON.parse(view.textContent).model_id, record = all[id];
      if (record?.model_module !== "anywidget") { view.before(needsKernel(all, id)); continue; }
      view.before(await live(record, await manager.get_model(id), modules));
    }
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", main);
  else main();
})();
