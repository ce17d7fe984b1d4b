// A deck: one slide at a time, moved by keys and buttons; everything shrinks until a slide fits. No dependencies.
(() => {
  const slides = [...document.querySelectorAll("section.slide")], place = document.getElementById("place");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = () => { document.documentElement.dataset.theme = dark.matches ? "dark" : "light"; };
  let now = 0;

  function fit(slide) {
    for (let size = 100; size >= 50; size -= 5) {
      document.documentElement.style.setProperty("--fit", size / 100); // on screen: the size of a rem
      slide.style.setProperty("--fit", size / 100); // on paper: this slide's zoom
      if (slide.scrollHeight <= slide.clientHeight && slide.scrollWidth <= slide.clientWidth) break;
    }
  }

  function show(i, focus = true) {
    now = Math.max(0, Math.min(slides.length - 1, i));
    slides.forEach((slide, k) => { slide.classList.toggle("now", k === now); slide.inert = k !== now; });
    place.textContent = `${now + 1} / ${slides.length}`;
    document.title = `${slides[now].getAttribute("aria-label")} · ${document.body.dataset.title}`;
    history.replaceState(null, "", `#${now + 1}`);
    fit(slides[now]);
    setTimeout(() => fit(slides[now]), 200); // a live figure redraws at its new size
    if (focus) slides[now].focus({ preventScroll: true });
  }

  const moves = {
    ArrowRight: 1, ArrowDown: 1, PageDown: 1, " ": 1, ArrowLeft: -1, ArrowUp: -1, PageUp: -1, Home: -Infinity, End: Infinity,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const page = event.key.startsWith("Page");
    // A figure's own controls keep their keys; Escape gives them back to the deck.
    if (event.target.closest("input, select, button, summary, a, [tabindex]:not(.slide)") && !page) {
      if (event.key === "Escape") slides[now].focus();
      return;
    }
    if (event.key in moves) { event.preventDefault(); show(now + moves[event.key]); }
    if (event.key === "n") document.getElementById("notes").click();
  });
  document.getElementById("back").addEventListener("click", () => show(now - 1, false));
  document.getElementById("on").addEventListener("click", () => show(now + 1, false));
  document.getElementById("notes").addEventListener("click", (event) => {
    event.target.setAttribute("aria-pressed", document.body.classList.toggle("with-notes"));
    fit(slides[now]);
  });
  addEventListener("resize", () => fit(slides[now]));
  addEventListener("hashchange", () => show(+location.hash.slice(1) - 1));
  dark.addEventListener("change", theme);
  addEventListener("beforeprint", () => {
    const before = now;
    for (let i = 0; i < slides.length; i++) show(i, false);
    show(before, false);
  });
  theme();
  document.body.classList.add("deck");
  show((+location.hash.slice(1) || 1) - 1);
  addEventListener("load", async () => { await window.MathJax?.startup?.promise; document.body.classList.add("made"); fit(slides[now]); });
})();
