"use strict";
/* Headers sort their tables, sliders move operating points. Without this script every number is still there. */
(() => {
  const plain = (cell) => {
    const copy = cell.cloneNode(true);
    copy.querySelectorAll("small").forEach((aside) => aside.remove());
    return copy.textContent.replaceAll("\u202f", "").replaceAll("\u2212", "-").trim();
  };
  /* A dot stands for no rows; a dash, or any other text, for no number. */
  const number = (text) => (text === "\u00b7" ? 0 : parseFloat(text.replace(/^[\u25b2\u25bc+\s]+/, "")));

  const columns = (table) => {
    const taken = [], found = [], rows = [...table.tHead.rows];
    rows.forEach((row, y) => {
      let x = 0;
      for (const cell of row.cells) {
        while (taken[y]?.[x]) x += 1;
        for (let down = 0; down < cell.rowSpan; down += 1) {
          for (let right = 0; right < cell.colSpan; right += 1) (taken[y + down] ??= [])[x + right] = true;
        }
        if (cell.colSpan === 1 && y + cell.rowSpan === rows.length) found.push([cell, x]);
      }
    });
    return found;
  };

  const sort = (table, header, x) => {
    const down = header.getAttribute("aria-sort") === "ascending";
    const keyed = [...table.tBodies[0].rows].map((row) => {
      const text = plain(row.cells[x]);
      return [row, header.classList.contains("n") ? number(text) : text];
    });
    const absent = (key) => Number.isNaN(key) || key === "" || key === "\u2013";
    const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b);
    /* What has no value comes last, whichever way the others go. */
    keyed.sort(([, a], [, b]) => absent(a) - absent(b) || (absent(a) ? 0 : (down ? -1 : 1) * compare(a, b)));
    table.tBodies[0].append(...keyed.map(([row]) => row));
    table.tHead.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  for (const table of document.querySelectorAll("table[data-table]")) {
    if (!table.tHead || table.tBodies[0].rows.length < 2) continue;
    for (const [header, x] of columns(table)) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      button.addEventListener("click", () => sort(table, header, x));
      header.append(button);
    }
  }

  for (const block of document.querySelectorAll("[data-points]")) {
    const points = JSON.parse(block.dataset.points), slider = block.querySelector("input");
    const cells = block.querySelectorAll("[data-column]"), dot = block.querySelector("[data-at]");
    const show = () => {
      const { told, at } = points[Number(slider.value)];
      cells.forEach((cell) => { cell.textContent = told[Number(cell.dataset.column)]; });
      slider.setAttribute("aria-valuetext", told[0]);
      if (dot && at) ["cx", "cy"].forEach((name, i) => dot.setAttribute(name, at[i]));
    };
    slider.addEventListener("input", show);
    show();
    slider.closest("[hidden]").hidden = false;
  }
})();
