// The pages work without this. It makes them live, gives them keys, remembers light or dark, and draws formulas.
"use strict";

const theme = localStorage.getItem("theme");
if (theme) document.documentElement.dataset.theme = theme;

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// --- light or dark

function switchTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  const next = now === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("theme", next);
}

// --- parts of a page that are fetched: data-load once, data-live again after each event

async function refresh(part, address) {
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const open = all("details[open][id]", part).map((each) => each.id);
  const marked = part.querySelector("[data-marked] a[href]")?.getAttribute("href");
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
  part.replaceChildren(...parsed.body.childNodes);
  open.forEach((id) => document.getElementById(id)?.setAttribute("open", ""));
  for (const link of all("a[href]", part)) {
    if (marked && link.getAttribute("href") === marked) link.closest("[data-row]")?.setAttribute("data-marked", "");
    if (focused && link.getAttribute("href") === focused) link.focus({ preventScroll: true });
  }
  enliven(part);
}

let waiting = false;
async function refreshAll() {
  if (waiting || document.hidden) return;
  waiting = true;
  try {
    await Promise.all(all("[data-live]").map((part) => refresh(part, part.dataset.live)));
  } finally {
    setTimeout(() => { waiting = false; }, 1500);
  }
}

function follow(address) {
  const events = new EventSource(address);
  const away = document.querySelector(".away");
  let first = true;
  events.onmessage = (event) => {
    away.hidden = event.data !== "away";
    if (!first && event.data !== "away") later();
    first = false;
  };
  events.onerror = () => { away.hidden = false; };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refreshAll(); });
}

let timer = null; // one refresh for many events
function later() {
  timer ??= setTimeout(() => { timer = null; waiting ? later() : refreshAll(); }, 400);
}

// --- keys: j k move among rows, or between pages that are linked as next and previous

const rows = () => all("[data-row]").filter((row) => !row.hidden);

function move(step) {
  const listed = rows();
  if (!listed.length) {
    document.querySelector(step > 0 ? "a[rel=next]" : "a[rel=prev]")?.click();
    return;
  }
  const now = listed.findIndex((row) => row.hasAttribute("data-marked"));
  const next = listed[Math.min(listed.length - 1, Math.max(0, now + step))];
  listed.forEach((row) => row.toggleAttribute("data-marked", row === next));
  next.querySelector("a[href]")?.focus({ preventScroll: true });
  next.scrollIntoView({ block: "nearest" });
}

function press(event) {
  const writing = event.target.closest("input, textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) writing?.form?.requestSubmit();
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") writing?.blur();
  if (writing || document.querySelector("dialog[open]")) return;
  const actions = {
    j: () => move(1),
    k: () => move(-1),
    "/": () => document.querySelector("[data-filter]")?.focus(),
    "?": () => document.getElementById("help").showModal(),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
}

// --- the filter hides rows that lack its words; a field inside a form asks the server instead

function applyFilter(field) {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of all("[data-rows] [data-row]")) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
    const beneath = row.nextElementSibling;
    if (beneath?.classList.contains("beneath")) beneath.hidden = row.hidden;
  }
}

// --- what every part of a page needs, also one that was fetched

// What scrolls sideways on this screen can be reached, and so scrolled, by keyboard.
function reachScrolling() {
  for (const part of all(".scroll")) {
    if (part.scrollWidth > part.clientWidth) part.tabIndex = 0;
    else part.removeAttribute("tabindex");
  }
}

function enliven(root) {
  reachScrolling();
  const filter = document.querySelector("input[data-filter]");
  if (filter && !filter.form) applyFilter(filter);
  for (const part of all("[data-load]", root)) {
    const address = part.dataset.load;
    part.removeAttribute("data-load");
    refresh(part, address);
  }
  if (window.temml) all("[data-formulas]", root).forEach(drawFormulas);
}

// Formulas between \( \), \[ \], $ $ and $$ $$ become MathML. What temml cannot read stays as it was written.
const FORMULA = /\\\[([\s\S]+?)\\\]|\$\$([\s\S]+?)\$\$|\\\(([\s\S]+?)\\\)|\$((?:[^$\\\n]|\\.)+?)\$/g;
const LONGEST = 20000; // characters of a text with formulas

function drawFormulas(element) {
  const text = element.textContent;
  if (element.dataset.drawn || text.length > LONGEST) return;
  element.dataset.drawn = "true";
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(FORMULA)) {
    const displayed = match[1] ?? match[2];
    const holder = document.createElement("span");
    try {
      temml.render(displayed ?? match[3] ?? match[4], holder, {
        displayMode: displayed !== undefined, throwOnError: true, trust: false, maxExpand: 200, maxSize: [20, 20],
      });
    } catch {
      holder.textContent = match[0];
    }
    parts.push(text.slice(end, match.index), holder);
    end = match.index + match[0].length;
  }
  if (end) element.replaceChildren(...parts, text.slice(end));
}

async function copy(button) {
  await navigator.clipboard.writeText(button.dataset.copy);
  const label = button.textContent;
  button.textContent = "copied";
  setTimeout(() => { button.textContent = label; }, 1200);
}

addEventListener("DOMContentLoaded", () => {
  const { events, every } = document.querySelector("main").dataset;
  if (events) follow(events);
  if (every) setInterval(refreshAll, Number(every));
  document.addEventListener("keydown", press);
  addEventListener("resize", reachScrolling);
  document.addEventListener("input", (event) => {
    if (event.target.matches("input[data-filter]") && !event.target.form) applyFilter(event.target);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches("[data-submits]")) event.target.form.requestSubmit();
  });
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.action === "theme") switchTheme();
    if (button?.dataset.action === "help") document.getElementById("help").showModal();
    if (button?.dataset.copy) copy(button);
  });
  enliven(document);
});
