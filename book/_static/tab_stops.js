// The theme looks for blocks of code that scroll, and makes them stops of the Tab key, when the window changes its size; it
// should look again when a solution is opened.
document.addEventListener("click", (event) => {
  if (event.target.closest?.(".dropdown, summary")) window.dispatchEvent(new Event("resize"));
});
