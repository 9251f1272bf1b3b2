// What the pages of problems, comparisons and allocations add: details that are fetched when they open, and thresholds.
"use strict";

// --- data-fetch: the part of another page that has data-part replaces what the details held

async function fetchInto(details) {
  const address = details.dataset.fetch;
  details.removeAttribute("data-fetch");
  const rest = [...details.children].filter((child) => child.tagName !== "SUMMARY");
  rest.forEach((child) => { child.textContent = "…"; });
  const answer = await fetch(address, { headers: { accept: "text/html" } });
  const parsed = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = parsed.querySelectorAll("[data-part]");
  const part = document.createElement("div");
  part.append(...(found.length ? found : [parsed.querySelector("main p")?.textContent ?? "no answer"]));
  rest.forEach((child) => child.remove());
  details.append(part);
  enliven(part);
}

document.addEventListener("toggle", (event) => {
  if (event.target.open && event.target.dataset.fetch) fetchInto(event.target);
}, true);

// --- thresholds: the counts for every threshold came with the page; sliders look them up

function showThresholds(form) {
  const table = JSON.parse(form.dataset.counts);
  const { tau_low: low, tau_high: high } = form.elements;
  if (Number(low.value) >= Number(high.value)) {
    if (form.dataset.last === "tau_low") high.value = Number(low.value) + 0.01;
    else low.value = Number(high.value) - 0.01;
  }
  const at = [Math.round(low.value * 100), Math.round(high.value * 100)];
  const levels = (values) => ({
    outlier: values.outlier[at[0]], inlier: values.inlier[at[1]],
    boundary: values.all - values.outlier[at[0]] - values.inlier[at[1]],
  });
  for (const kind of ["problems", "pairs"]) {
    for (const [level, value] of Object.entries(levels(table[kind]))) {
      const cell = form.querySelector(`[data-${kind}="${level}"]`);
      const moved = value - Number(cell.dataset.now);
      cell.textContent = value.toLocaleString("en");
      cell.nextElementSibling.textContent = moved ? `${moved > 0 ? "+" : "−"}${Math.abs(moved).toLocaleString("en")}` : "";
    }
  }
  const boundary = levels(table.problems).boundary;
  form.querySelector("[data-share]").textContent = boundary ? (table.further / boundary).toFixed(1) : "–";
  for (const [field, place] of [[low, 0], [high, 1]]) {
    field.nextElementSibling.textContent = Number(field.value).toFixed(2);
    const mark = form.querySelectorAll("line.mark")[place];
    const label = form.querySelectorAll("text.mark")[place];
    mark?.setAttribute("x1", `${at[place]}%`);
    mark?.setAttribute("x2", `${at[place]}%`);
    label?.setAttribute("x", `${at[place]}%`);
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-counts]");
  if (!form) return;
  form.dataset.last = event.target.name;
  showThresholds(form);
});
