"use strict";
// What moves in the report: tables that sort and filter, commands to copy. Without this file everything can still be read.

function value(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.sort ?? (cell.classList.contains("num") ? "" : cell.textContent.trim());
  if (text === "" || text === "—") return null;
  const number = Number(text);
  return Number.isNaN(number) ? text.toLowerCase() : number;
}

function compare(a, b) {
  if (typeof a === typeof b && typeof a === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    // Numbers are looked through from the top, names from A; the third press brings the study's own order back.
    const orders = head.classList.contains("num") ? ["descending", "ascending"] : ["ascending", "descending"];
    button.addEventListener("click", () => {
      const next = orders[orders.indexOf(head.getAttribute("aria-sort")) + 1];
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      if (next) head.setAttribute("aria-sort", next);
      const sign = next === "descending" ? -1 : 1;
      const rows = original.map((row) => [row, value(row, column)]);
      if (next) {
        rows.sort(([, a], [, b]) => (a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b)));
      }
      body.append(...rows.map(([row]) => row));
    });
  });
}

// Names of variants may end a line before @ + : and after =.
function makeBreakable(table) {
  for (const row of table.tBodies[0].rows) {
    const cell = row.cells[0];
    const walker = document.createTreeWalker(cell, NodeFilter.SHOW_TEXT);
    const texts = [];
    while (walker.nextNode()) texts.push(walker.currentNode);
    for (const text of texts) {
      const [first, ...parts] = text.data.split(/(?=[@+:])|(?<==)/);
      text.data = first;
      let last = text;
      for (const part of parts) {
        const next = document.createTextNode(part);
        last.after(document.createElement("wbr"), next);
        last = next;
      }
    }
  }
}

// What can be pushed aside fades out at its end.
function showMore(scroll) {
  const update = () => {
    scroll.classList.toggle("more", scroll.scrollLeft + scroll.clientWidth < scroll.scrollWidth - 2);
  };
  scroll.addEventListener("scroll", update, { passive: true });
  new ResizeObserver(update).observe(scroll);
}

function field(name, control) {
  const label = document.createElement("label");
  label.append(name, control);
  return label;
}

function poseOf(row, part, column) {
  return column < 0 ? part.dataset.pose ?? "" : row.cells[column].textContent.trim();
}

function makeFilter(article) {
  const rows = [];
  for (const part of article.querySelectorAll(".sections .part")) {
    const table = part.querySelector("table");
    const column = [...table.tHead.rows[0].cells].findIndex((head) => head.textContent.trim() === "Pose");
    for (const row of table.tBodies[0].rows) {
      rows.push({ row, part, pose: poseOf(row, part, column), text: row.textContent.toLowerCase() });
    }
  }
  const poses = [...new Set(rows.map(({ pose }) => pose).filter(Boolean))];
  if (rows.length < 8 && poses.length < 2) return;
  const input = document.createElement("input");
  input.type = "search";
  input.placeholder = "such as stn";
  const select = document.createElement("select");
  select.append(new Option("all", ""), ...poses.map((pose) => new Option(pose, pose)));
  const output = document.createElement("output");
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(field("Show rows with", input));
  if (poses.length > 1) tools.append(field("Pose", select));
  tools.append(output);
  const update = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    const alive = new Set();
    for (const { row, part, pose, text } of rows) {
      const fits = words.every((word) => text.includes(word)) && (!select.value || !pose || pose === select.value);
      row.hidden = !fits;
      shown += fits;
      if (fits) alive.add(part);
    }
    for (const { part } of rows) part.hidden = !alive.has(part);
    output.textContent = shown === rows.length ? `${shown} rows` : `${shown} of ${rows.length} rows`;
  };
  input.addEventListener("input", update);
  select.addEventListener("change", update);
  update();
  article.querySelector(".sections").before(tools);
}

function makeCopyable(command) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const code = command.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code); // where a page may not copy, Ctrl-C does
    }
  });
  command.append(button);
}

function followReader() {
  const links = new Map([...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      links.forEach((link) => link.removeAttribute("aria-current"));
      links.get(entry.target.id)?.setAttribute("aria-current", "location");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  document.querySelectorAll("main > section").forEach((section) => observer.observe(section));
}

// On a phone each chapter but the answer is folded under its heading, which unfolds it, as a link to it does.
function foldChapters() {
  const chapters = [...document.querySelectorAll("main > section:not(#answer)")];
  for (const chapter of chapters) {
    const fold = document.createElement("details");
    const summary = document.createElement("summary");
    const [heading, ...rest] = chapter.children;
    fold.className = "fold";
    summary.append(heading);
    fold.append(summary, ...rest);
    chapter.append(fold);
  }
  const unfold = () => {
    const target = document.getElementById(location.hash.slice(1));
    const fold = target?.querySelector(":scope > .fold") ?? target?.closest(".fold");
    if (fold) fold.open = true;
  };
  addEventListener("hashchange", unfold);
  addEventListener("click", (event) => event.target.closest("a[href^='#']") && setTimeout(unfold));
  unfold();
}

if (matchMedia("(max-width: 40rem)").matches) foldChapters();
document.querySelectorAll("article.table table").forEach(makeSortable);
document.querySelectorAll("article.table table").forEach(makeBreakable);
document.querySelectorAll("article.table").forEach(makeFilter);
document.querySelectorAll(".scroll").forEach(showMore);
document.querySelectorAll(".command").forEach(makeCopyable);
followReader();

// Paper cannot be unfolded.
addEventListener("beforeprint", () => document.querySelectorAll("details:not(.keys)").forEach((each) => { each.open = true; }));
