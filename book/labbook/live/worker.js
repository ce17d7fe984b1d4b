// A network that answers from a worker, so that the page never waits for it. A worker is made of the figure's own scripts;
// where a browser refuses one, the page computes, with a rest after each step.

const SERVED = `let held = null;
onmessage = async ({ data }) => {
  if (data.layers) { held = inflated(data.weights).then((weights) => network(data.layers, weights)); return; }
  postMessage(answer(await held, data));
};`;

const valueOf = async (model, reference, name) => (await model.widget_manager.get_model(reference.replace("IPY_MODEL_", ""))).get(name);

async function begun(model) {
  const texts = await Promise.all(model.get("scripts").slice(0, -1).map((text) => valueOf(model, text, "value")));
  const address = URL.createObjectURL(new Blob([...texts.map((text) => `${text}\n`), SERVED], { type: "text/javascript" }));
  const [layers, weights] = await Promise.all(["layers", "weights"].map((name) => valueOf(model, model.get("network"), name)));
  const worker = new Worker(address);
  worker.postMessage({ layers, weights });
  return worker;
}

// ask(request): a promise of { x_adv, logits }, one request at a time
async function engine(model) {
  let worker = null, net = null;
  const inPage = async (request) => {
    net ??= await networkOf(model);
    const work = attacking(net, request.x, request.label, request);
    let next = work.next();
    for (; !next.done; next = work.next()) await new Promise((done) => setTimeout(done));
    return { x_adv: next.value, logits: net.logits(next.value) };
  };
  try { worker = await begun(model); } catch { return { ask: inPage, stop() {} }; }
  let dead = false, failed = () => {};
  worker.onerror = () => { dead = true; failed(); };
  const ask = (request) => (dead ? inPage(request) : new Promise((done) => {
    failed = () => done(inPage(request));
    worker.onmessage = ({ data }) => done(data);
    worker.postMessage(request);
  }));
  return { ask, stop: () => worker.terminate() };
}

// The newest question of the reader goes first; what can wait (`later`) goes when nobody asks. `ask` drops a question that a
// newer one overtook: its promise gives null.
function queue({ ask: send }) {
  let now = null, waiting = [], busy = false;
  async function next() {
    if (busy) return;
    const job = now ?? waiting.shift();
    if (!job) return;
    if (job === now) now = null;
    busy = true;
    const answer = await send(job.request);
    busy = false;
    job.done(answer);
    next();
  }
  const put = (request, place) => new Promise((done) => { place({ request, done }); next(); });
  return {
    ask: (request) => put(request, (job) => { now?.done(null); now = job; }),
    later: (request) => put(request, (job) => waiting.push(job)),
  };
}
