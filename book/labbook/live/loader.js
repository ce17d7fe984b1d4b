// What a page gets as the module of every live figure: it joins the figure's own from the texts that figures of a notebook
// share, so that each is stored once, and adds the style once (see Figure and Shared in figure.py).

const modules = {}; // text -> module

async function shared(model, reference) {
  return (await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""))).get("value");
}

function dress(text) {
  const known = [...document.head.querySelectorAll("style.advlab-look")];
  if (known.some((style) => style.textContent === text)) return;
  document.head.append(Object.assign(document.createElement("style"), { className: "advlab-look", textContent: text }));
}

async function figure(model) {
  dress(await shared(model, model.get("look")));
  const text = (await Promise.all(model.get("scripts").map((script) => shared(model, script)))).join("\n");
  const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
  modules[text] ??= import(address).finally(() => URL.revokeObjectURL(address));
  return (await modules[text]).default;
}

export default { render: async ({ model, el }) => (await figure(model)).render({ model, el }) };
