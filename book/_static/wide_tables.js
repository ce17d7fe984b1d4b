// A table that is wider than its place says so, to eyes by a line above it, and lets the keyboard scroll it.
(() => {
  const places = ".pst-scrollable-table-container, .cell_output .output.text_html, .advlab-wide";
  function look() {
    for (const place of document.querySelectorAll(places)) {
      if (!place.querySelector("table")) continue;
      const wide = place.clientWidth > 0 && place.scrollWidth > place.clientWidth + 1;
      place.classList.toggle("advlab-scrolls", wide);
      if (wide) place.tabIndex = 0;
    }
  }
  addEventListener("DOMContentLoaded", look);
  addEventListener("load", look);
  addEventListener("resize", look);
  addEventListener("toggle", look, true);
})();
