// The field over a long table of numbers leaves those rows that have all of its words; a subject stays with one of its rows.
(() => {
  function filter(table, text) {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    let subject = null;
    for (const row of table.tBodies[0].rows) {
      const heading = row.querySelector(".subject");
      if (heading) subject = row;
      else if (!row.classList.contains("of-subject")) subject = null;
      const said = `${subject && subject !== row ? subject.textContent : ""} ${row.textContent}`.toLowerCase();
      row.hidden = heading ? words.length > 0 : !words.every((word) => said.includes(word));
      if (!heading && !row.hidden && subject) subject.hidden = false;
    }
  }
  addEventListener("DOMContentLoaded", () => {
    for (const place of document.querySelectorAll(".advlab-filter")) {
      const tables = [...document.querySelectorAll("table.subjects")];
      const table = tables.find((t) => place.compareDocumentPosition(t) & Node.DOCUMENT_POSITION_FOLLOWING);
      if (!table) continue;
      place.hidden = false;
      place.querySelector("input").addEventListener("input", (event) => filter(table, event.target.value));
    }
  });
})();
