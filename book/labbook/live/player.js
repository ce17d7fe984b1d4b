// Playing a recording: a button that goes on by itself, or one step at a press where the reader wants no motion.

// `at` says where the recording stands, of `n`; `move` goes there; a step takes `pause` milliseconds.
function player(el, step, { n, at, move, pause: rest }) {
  const button = make("button", { type: "button" }), still = globalThis.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
  let timer = null;
  const name = () => { button.textContent = still ? `next ${step}` : timer ? "pause" : "play"; };
  const pause = () => { clearInterval(timer); timer = null; name(); };
  const onward = () => {
    if (!el.isConnected || at() + 1 >= n) return pause();
    move(at() + 1);
    if (at() + 1 >= n) pause();
  };
  button.addEventListener("click", () => {
    if (timer) return pause();
    if (at() + 1 >= n) move(0);
    else if (still) return onward();
    if (!still && n > 1) { timer = setInterval(onward, rest); name(); }
  });
  name();
  return { root: button, pause };
}
