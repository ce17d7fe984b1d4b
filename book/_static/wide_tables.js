// A table that is wider than its place says so, to eyes by a line above it, and lets the keyboard scroll it.
(() => {
  const places = ".pst-scrollable-table-container, .cell_output .output.text_html, .advlab-wide, [style*='overflow-x']";
  function look() {
    for (const place of document.querySelectorAll(places)) {
      if (!place.querySelector("table")) continue;
      const said = place.parentElement.closest(".advlab-scrolls"); // by a place around this one
      const wide = !said && place.clientWidth > 0 && place.scrollWidth > place.clientWidth + 1;
      place.classList.toggle("advlab-scrolls", wide);
      if (wide) place.tabIndex = 0;
    }
  }
  addEventListener("DOMContentLoaded", () => {
    look();
    const watch = new ResizeObserver(look);
    for (const table of document.querySelectorAll(".bd-article table")) watch.observe(table);
  });
  addEventListener("load", look);
  addEventListener("resize", look);
  addEventListener("toggle", look, true);
})();
