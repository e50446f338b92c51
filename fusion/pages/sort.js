"use strict";
document.querySelectorAll("table.board").forEach((board) => {
  const body = board.tBodies[0];
  const heads = [...board.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.querySelector("button").addEventListener("click", () => {
      const best = head.dataset.kind === "high" ? "descending" : "ascending";
      const other = best === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === best ? other : best; // the best first, then the other way round
      heads.forEach((cell) => cell.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const value = (row) => row.cells[column].dataset.value;
      const compare = head.dataset.kind === "text"
        ? (a, b) => value(a).localeCompare(value(b))
        : (a, b) => Number(value(a)) - Number(value(b));
      [...body.rows].sort((a, b) => sign * compare(a, b)).forEach((row) => body.append(row));
    });
  });
});
