"use strict";
const D = JSON.parse(document.getElementById("data").textContent);
const PER_PAGE = 100;
const AT_FIRST = 10;  // pictures of a gallery; the others on demand
const COLOURS = ["#2f7ed8", "#e0782f", "#2f9e6e", "#b04fc4", "#c43d5d", "#7a6a20"];
const $ = (id) => document.getElementById(id);
const images = D.images.map((r) => ({
  id: r[0], folder: D.names[r[1]], file: r[2], experiment: D.names[r[3]], state: D.names[r[4]],
  at: r[5], rois: r[6], confidence: r[7], novelty: r[8], model: D.names[r[9]], doubt: r[10],
  isFlagged: !!(r[11] & 1), isCorrected: !!(r[11] & 2), preview: r[12],
}));
const EXPLAINED = {
  checkout: "take it out for correction (correct-masks.md says how it comes back)",
  explain: "everything that is known about it", flag: "mark it for somebody to look at",
};
// The field of a plate is called after its well, its file being a list of all fields.
for (const each of images) {
  const field = `${each.folder}/${each.file}`.match(/\/([A-Z]{1,2}\d{2})\/(\d+)$/i);
  each.label = field ? `${field[1]} field ${field[2]}` : each.file;
}
const byId = new Map(images.map((each) => [each.id, each]));

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}
function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") made.textContent = value;
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}
const pad = (n) => String(n).padStart(2, "0");
function local(moment) {
  if (!moment) return "";
  const d = new Date(moment);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${pad(d.getHours())}:${pad(d.getMinutes())}`;
}
const number = (value) => (value == null ? "" : value.toLocaleString("en"));
const fixed = (value, digits = 2) => (value == null ? "" : value.toFixed(digits));
const plural = (n, noun) => `${number(n)} ${noun}${n === 1 ? "" : "s"}`;
const href = (path) => path.split("/").map(encodeURIComponent).join("/");
const quoted = (text) => (/^[\w./@:+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`);

function doubtsOf(image) {
  const said = [];
  if (image.doubt & 1) said.push("nothing was found");
  if (image.doubt & 2) said.push(`unlike the training images (novelty ${fixed(image.novelty, 1)})`);
  if (image.doubt & 4) said.push(`unsure (confidence ${fixed(image.confidence)})`);
  return said;
}
function picture(path, alt) {
  const frame = el("div", { class: "picture" });
  if (!path) return frame.append("no preview"), frame;
  const shown = el("img", { src: href(path), alt, loading: "lazy" });
  shown.addEventListener("error", () => frame.replaceChildren("no preview"));
  frame.append(shown);
  return frame;
}
function tile(image, why) {
  const counted = image.rois == null ? image.state : plural(image.rois, "ROI");
  const text = el("div", { class: "text" }, el("div", { text: image.label }),
    el("div", { class: "soft", text: image.experiment }),
    el("div", { class: "soft", text: `${counted} · ${local(image.at)}` }));
  if (why) text.append(el("div", { class: "why", text: why }));
  return el("button", { class: "tile", type: "button", onclick: () => openDetail(image) },
    picture(image.preview, `${image.label}, ${counted}`), text);
}
function copyButton(text, label) {
  const button = el("button", { type: "button", text: label });
  button.addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(text); } catch {
      const area = el("textarea", { text });
      button.after(area); area.select(); document.execCommand("copy"); area.remove();
    }
    button.textContent = "Copied";
  });
  return button;
}
const whyOf = (each) => (each.by === "cellwatch" ? each.why : `flagged by ${each.by}${each.why ? `: ${each.why}` : ""}`);
function openDetail(image) {
  $("detail-title").textContent = image.label;
  const path = `${image.folder.split("/").slice(1).concat(image.file).join("/")}`;
  const facts = [["Folder", image.folder], ["Experiment", image.experiment], ["State", image.state],
    ["Finished", local(image.at)], ["ROIs", number(image.rois)], ["Model", image.model],
    ["Confidence", fixed(image.confidence)], ["Novelty", fixed(image.novelty)],
    ["Doubts", doubtsOf(image).join("; ")],
    ["Why", [...D.failures, ...D.waiting].find((each) => each.id === image.id)?.reason],
    ["To look at", D.review.filter((each) => each.acquisition_id === image.id).map(whyOf).join("; ")],
    ["People", [image.isFlagged && "flagged", image.isCorrected && "corrected"].filter(Boolean).join(", ")]];
  const rows = facts.filter(([, value]) => value).map(([key, value]) =>
    el("tr", {}, el("th", { scope: "row", text: key }), el("td", { text: value })));
  const words = image.state === "done" ? ["checkout", "explain", "flag"] : ["explain"];
  const commands = words.map((word) => [`cellwatch ${word} ${quoted(path)}`, EXPLAINED[word]]);
  $("detail-body").replaceChildren(
    ...(image.preview ? [el("img", { src: href(image.preview), alt: `${image.file} with outlines` })] : []),
    el("table", {}, el("tbody", {}, ...rows)),
    ...commands.map(([command, told]) => el("p", {}, el("code", { text: command }), " ",
      copyButton(command, "Copy"), el("span", { class: "soft", text: ` ${told}` }))));
  $("detail").showModal();
}

function table(target, columns, rows, onRow) {
  // columns: [title, value of a row, is a number, text of a row]
  let sorted = { column: -1, isUp: true };
  const body = el("tbody");
  const heads = columns.map(([title, , isNumber], index) => {
    const button = el("button", { type: "button", text: title, onclick: () => sortBy(index) });
    return el("th", { scope: "col", class: isNumber ? "n" : false, "aria-sort": "none" }, button);
  });
  function sortBy(index) {
    sorted = { column: index, isUp: sorted.column === index ? !sorted.isUp : !columns[index][2] };
    heads.forEach((head, n) => head.setAttribute("aria-sort",
      n !== index ? "none" : sorted.isUp ? "ascending" : "descending"));
    const value = columns[index][1];
    rows.sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const order = x == null ? 1 : y == null ? -1 : x < y ? -1 : x > y ? 1 : 0;
      return x == null || y == null || sorted.isUp ? order : -order;
    });
    draw();
  }
  let shown = rows, first = 0;
  function draw() {
    shown = rows.filter(draw.filter);
    first = Math.min(first, Math.max(0, Math.floor((shown.length - 1) / PER_PAGE) * PER_PAGE));
    const page = draw.isPaged ? shown.slice(first, first + PER_PAGE) : shown;
    body.replaceChildren(...page.map((row) => {
      const cells = columns.map(([, value, isNumber, text]) =>
        el("td", { class: isNumber ? "n" : false, text: String((text || value)(row) ?? "") }));
      const line = el("tr", onRow ? { class: "is-row", tabindex: "0", onclick: () => onRow(row) } : {}, ...cells);
      if (onRow) line.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === " ") { event.preventDefault(); onRow(row); }
      });
      return line;
    }));
    draw.after?.(shown.length, first);
  }
  draw.filter = () => true;
  draw.turn = (by) => { first += by * PER_PAGE; draw(); };
  draw.toStart = () => { first = 0; draw(); };
  target.replaceChildren(el("thead", {}, el("tr", {}, ...heads)), body);
  draw();
  return draw;
}

function showHead() {
  document.title = `${D.station} · cellwatch`;
  $("station").textContent = `cellwatch: ${D.station}`;
  $("state").textContent = D.state;
  $("state").classList.add(D.state === "running" ? "good" : D.state === "stopped" ? "warn" : "bad");
  $("written").textContent = `As of ${local(D.written_at)}`;
  $("footer").textContent = `cellwatch ${D.version}. This file is rewritten while the daemon runs; reload it to see what is new.`;
  const age = (Date.now() - new Date(D.written_at)) / 60000;
  if (D.state === "running" && age > 60) alertWith(`This page is ${Math.round(age / 60)} h old: the daemon may have stopped. Ask cellwatch status.`, true);
}
function alertWith(text, isBad = false) {
  $("alerts").append(el("p", { class: isBad ? "alert is-bad" : "alert", text }));
}
function showAlerts() {
  if (D.state === "stopped") alertWith("The daemon does not run: it was stopped, and new images wait until somebody starts it.");
  if (D.trouble) alertWith(`No image is segmented at the moment: ${D.trouble}`, true);
  for (const each of D.alarms) alertWith(`Alarm since ${local(each.raised_at)}: ${each.watch}/${each.experiment}, ${each.target}: ${each.told}`, true);
  for (const each of D.folders) if (each.state === "offline") alertWith(`${each.path} is offline: ${each.reason}`, true);
  for (const each of D.pauses) alertWith(`${each.watch ? `Images in '${each.watch}' are` : "All is"} paused by ${each.by} since ${local(each.since)}`);
  const d = D.doubts;
  for (const [model, n] of Object.entries(d.unlike || {})) alertWith(`Doubtful: ${plural(n, "image")} of ${number(d.images)} are unlike what '${model}' was trained on (look at these first, below)`);
  if (d.empty) alertWith(`Doubtful: nothing was found in ${plural(d.empty, "image")}`);
  if (d.unsure) alertWith(`Doubtful: the model was unsure of ${plural(d.unsure, "image")}`);
  if (d.outdated) alertWith(`${plural(d.outdated, "image")} changed since: the masks in place are of what was there before`);
  if (d.missing) alertWith(`${plural(d.missing, "mask store")} are gone since they were written (cellwatch verify)`, true);
  for (const each of D.unread) alertWith(`${plural(each.files, "file")} of a kind that is not read: ${each.suffix}, such as ${each.example}`);
}
function showToday() {
  const waiting = (D.counts.queued || 0) + (D.counts.waiting || 0);
  const cards = [["images done today", D.today.done], ["ROIs found today", D.today.rois], ["failures today", D.today.bad],
    ["waiting now", waiting], ["being segmented", D.counts.running], ["alarms now", D.alarms.length],
    ["done in all", D.counts.done], ["flagged", D.flagged]];
  $("cards").replaceChildren(...cards.map(([name, n]) =>
    el("div", { class: "card" }, el("b", { text: number(n) }), el("span", { class: "soft", text: name }))));
  if (!D.hours.length) return;
  const end = new Date(D.written_at), slots = [];
  const found = new Map(D.hours.map(([hour, n]) => [new Date(`${hour}:00:00Z`).getTime(), n]));
  for (let n = 47; n >= 0; n--) {
    const hour = Math.floor(end.getTime() / 3600000 - n) * 3600000;
    slots.push([new Date(hour), found.get(hour) || 0]);
  }
  const most = Math.max(...slots.map(([, n]) => n), 1);
  const bars = slots.map(([hour, n], i) => svg("rect", { x: 40 + i * 20, y: 70 - 60 * n / most, width: 16,
    height: 60 * n / most, fill: COLOURS[0] }, svg("title", { text: `${pad(hour.getHours())}:00, ${plural(n, "image")}` })));
  const labels = slots.filter(([h]) => h.getHours() % 6 === 0).map(([h]) => svg("text", {
    x: 40 + slots.findIndex(([other]) => other === h) * 20, y: 84, text: `${pad(h.getHours())}:00` }));
  $("hours").replaceChildren(el("h3", { text: "Images an hour, last 48 hours" }),
    svg("svg", { viewBox: "0 0 1010 90", role: "img", "aria-label": "Images finished in each of the last 48 hours" },
      svg("text", { x: 2, y: 18, text: String(most) }), svg("line", { x1: 36, x2: 1004, y1: 70, y2: 70, class: "axis" }), ...bars, ...labels));
}
function fill(gallery, tiles) {
  gallery.replaceChildren(...tiles.slice(0, AT_FIRST));
  if (tiles.length <= AT_FIRST) return;
  const more = el("button", { type: "button", text: `Show ${tiles.length - AT_FIRST} more`, onclick: () => {
    more.remove(); gallery.append(...tiles.slice(AT_FIRST)); tiles[AT_FIRST].focus();
  } });
  gallery.after(more);
}
function showGalleries() {
  const first = D.review.map((each) => {
    const image = byId.get(each.acquisition_id);
    return image && tile(image, whyOf(each));
  }).filter(Boolean);
  fill($("review-gallery"), first);
  $("review").hidden = !first.length;
  const done = images.filter((each) => each.state === "done")
    .sort((a, b) => (a.at < b.at ? 1 : -1)).slice(0, 60);
  fill($("newest-gallery"), done.map((each) => tile(each, doubtsOf(each).join("; "))));
  $("newest").hidden = !done.length;
}
function shade(part) {
  // From pale to dark blue, readable with either ink.
  const light = Math.round(94 - 62 * part);
  return { background: `hsl(212 70% ${light}%)`, ink: light > 58 ? "#10202f" : "#ffffff" };
}
function showPlates() {
  $("plates").hidden = !D.plates.length;
  for (const plate of D.plates) for (const target of new Set(plate.wells.map((w) => w.target))) {
    const wells = plate.wells.filter((w) => w.target === target);
    const rows = [...new Set(wells.map((w) => w.place[0]))].sort((a, b) => a - b);
    const columns = [...new Set(wells.map((w) => w.place[1]))].sort((a, b) => a - b);
    const at = new Map(wells.map((w) => [w.place.join(), w]));
    const counts = wells.filter((w) => w.done).map((w) => w.rois_a_field);
    const [least, most] = [Math.min(...counts), Math.max(...counts)];
    const letters = (row) => wells.find((w) => w.place[0] === row).well.replace(/\d+$/, "");
    const cell = (w) => {
      if (!w) return el("td");
      const { background, ink } = shade(w.done && most > least ? (w.rois_a_field - least) / (most - least) : 0);
      const told = w.done ? `${w.well}: ${plural(w.rois, "ROI")} in ${w.done} of ${plural(w.fields, "field")}` : `${w.well}: not done yet`;
      return el("td", { title: told, style: w.done ? `background:${background};color:${ink}` : false, text: w.done ? String(w.rois) : "…" });
    };
    const head = el("tr", {}, el("td"), ...columns.map((c) => el("th", { scope: "col", text: String(c) })));
    const body = rows.map((r) => el("tr", {}, el("th", { scope: "row", text: letters(r) }), ...columns.map((c) => cell(at.get(`${r},${c}`)))));
    const fewest = wells.filter((w) => w.done).sort((a, b) => a.rois_a_field - b.rois_a_field)[0];
    const summed = "; the numbers are ROIs in all fields of a well";
    $("plate-maps").append(el("div", { class: "plate" }, el("h3", { text: `${plate.plate}: ${target}` }),
      el("p", { class: "soft", text: `${plate.done} of ${plural(plate.fields, "field")} done${plate.bad ? `, ${plate.bad} failed` : ""}${fewest ? `; fewest in ${fewest.well} (${fixed(fewest.rois_a_field, 1)} a field)` : ""}${summed}` }),
      el("table", {}, el("tbody", {}, head, ...body))));
  }
}
function showExperiments() {
  table($("experiment-table"), [
    ["Experiment", (e) => `${e.watch}/${e.experiment}`], ["Images", (e) => e.images, true, (e) => number(e.images)],
    ["Done", (e) => e.done, true, (e) => number(e.done)], ["Failures", (e) => e.bad, true, (e) => number(e.bad)],
    ["Doubtful", (e) => e.doubtful, true, (e) => number(e.doubtful)],
    ["ROIs an image", (e) => (e.done ? e.rois / e.done : null), true, (e) => (e.done ? fixed(e.rois / e.done, 1) : "")],
    ["Confidence", (e) => e.confidence, true, (e) => fixed(e.confidence)], ["Model", (e) => e.models || ""],
    ["Latest", (e) => e.latest, false, (e) => local(e.latest)],
  ], D.experiments, (e) => {
    $("filter-experiment").value = e.experiment; $("filter-experiment").dispatchEvent(new Event("change"));
    $("images").scrollIntoView();
  });
  $("experiments").hidden = !D.experiments.length;
}
function chart(title, series, unit) {
  const points = series.flatMap((s) => s.points);
  if (points.length < 2) return null;
  const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
  const [x0, x1, y1] = [Math.min(...xs), Math.max(...xs), Math.max(...ys, unit === "share" ? 1 : 1)];
  const X = (x) => 40 + 440 * (x1 > x0 ? (x - x0) / (x1 - x0) : .5), Y = (y) => 170 - 150 * y / y1;
  const marks = series.flatMap((s, n) => s.points.map(([x, y, label]) => svg("circle", {
    cx: X(x), cy: Y(y), r: 3, fill: COLOURS[n % COLOURS.length], "fill-opacity": .7 }, svg("title", { text: `${label}: ${unit === "share" ? fixed(y) : number(y)}` }))));
  const ticks = [0, .5, 1].map((part) => svg("text", { x: 2, y: Y(y1 * part) + 4, text: unit === "share" ? fixed(y1 * part, 1) : String(Math.round(y1 * part)) }));
  const ends = [[x0, 40, "start"], [x1, 480, "end"]].map(([x, at, anchor]) => svg("text", { x: at, y: 188, "text-anchor": anchor, text: local(new Date(x).toISOString()) }));
  return el("figure", { style: "margin:0" }, el("h3", { text: title }),
    svg("svg", { viewBox: "0 0 490 195", role: "img", "aria-label": title }, svg("line", { x1: 38, x2: 482, y1: 170, y2: 170, class: "axis" }), ...ticks, ...ends, ...marks),
    el("figcaption", { class: "legend" }, ...series.map((s, n) => el("span", {}, el("i", { style: `background:${COLOURS[n % COLOURS.length]}` }), s.name))));
}
function showCourse() {
  const done = images.filter((each) => each.state === "done" && each.at).slice(0, 3000);
  const names = [...new Set(done.map((each) => each.experiment))].slice(0, COLOURS.length);
  const of = (value) => names.map((name) => ({ name, points: done.filter((i) => i.experiment === name && value(i) != null)
    .slice(0, 500).map((i) => [new Date(i.at).getTime(), value(i), i.label]) }));
  const made = [chart("ROIs in each image", of((i) => i.rois)), chart("Confidence of each image", of((i) => i.confidence), "share")].filter(Boolean);
  $("charts").replaceChildren(...made);
  $("course").hidden = !made.length;
}
function showLearning() {
  $("learning").hidden = !D.groups.length;
  for (const group of D.groups) {
    const counts = Object.entries(group.corrections).map(([state, n]) => `${n} ${state}`).join(", ");
    const box = el("div", {}, el("h3", { text: `Group ${group.group}` }),
      el("p", { text: `Uses ${group.model || "its base"}${group.verdict ? ` (${group.verdict} ${group.since.slice(0, 10)})` : " (as configured)"}${counts ? `; corrections: ${counts}, of ${plural(new Set(group.effort.map((e) => e.path)).size, "image")}` : ""}` }),
      el("p", { text: group.told }));
    const seen = group.effort.filter((e) => e.is_unseen);
    const curve = chart("Before each correction: AP@0.5 of the masks, and the share of ROIs done by hand", [
      { name: "AP@0.5", points: group.effort.map((e) => [new Date(e.at).getTime(), e.ap50, e.path]) },
      { name: "done by hand", points: group.effort.filter((e) => e.share != null).map((e) => [new Date(e.at).getTime(), Math.min(1, e.share), e.path]) }], "share");
    if (curve && seen.length) box.append(curve);
    const nights = group.nights.slice().reverse();
    if (nights.length) {
      const target = el("table");
      table(target, [["Night", (n) => n.date], ["Model", (n) => n.model || ""], ["Decision", (n) => n.verdict],
        ["AP@0.5 before", (n) => n.numbers.incumbent, true, (n) => fixed(n.numbers.incumbent, 3)],
        ["after", (n) => n.numbers.candidate, true, (n) => fixed(n.numbers.candidate, 3)],
        ["Unseen images", (n) => n.numbers.images, true], ["Why", (n) => n.told || ""]], nights);
      box.append(el("div", { class: "scroll" }, target));
    }
    $("groups").append(box);
  }
}
function showFailures() {
  const rows = [...D.failures, ...D.waiting];
  table($("failure-table"), [["Image", (f) => f.path], ["State", (f) => f.state], ["Why", (f) => f.reason || ""],
    ["Since", (f) => f.state_since, false, (f) => local(f.state_since)], ["Tried again", (f) => f.retry_at, false, (f) => local(f.retry_at)]], rows);
  $("failures").hidden = !rows.length;
}
function showImages() {
  const draw = table($("image-table"), [
    ["Image", (i) => i.label], ["Folder", (i) => i.folder], ["State", (i) => i.state], ["ROIs", (i) => i.rois, true, (i) => number(i.rois)],
    ["Confidence", (i) => i.confidence, true, (i) => fixed(i.confidence)], ["Novelty", (i) => i.novelty, true, (i) => fixed(i.novelty)],
    ["Model", (i) => i.model], ["Doubt", (i) => (i.isFlagged ? 8 : 0) + i.doubt, false, (i) => [i.isFlagged && "flagged", i.isCorrected && "corrected", ...doubtsOf(i)].filter(Boolean).join("; ")],
    ["When", (i) => i.at, false, (i) => local(i.at)]], images.slice(), openDetail);
  draw.isPaged = true;
  const options = (values) => [el("option", { value: "", text: "all" }), ...values.map((v) => el("option", { value: v, text: v }))];
  $("filter-experiment").replaceChildren(...options([...new Set(images.map((i) => i.experiment))].sort()));
  $("filter-state").replaceChildren(...options([...new Set(images.map((i) => i.state))].sort()));
  draw.filter = (image) => {
    const text = $("filter-text").value.toLowerCase(), doubt = $("filter-doubt").value;
    const isDoubt = !doubt || (doubt === "f" ? image.isFlagged : doubt === "c" ? image.isCorrected : image.doubt & Number(doubt));
    return isDoubt && (!text || `${image.folder}/${image.file}`.toLowerCase().includes(text))
      && (!$("filter-experiment").value || image.experiment === $("filter-experiment").value)
      && (!$("filter-state").value || image.state === $("filter-state").value);
  };
  draw.after = (n, first) => {
    const older = D.n_images > images.length ? ` (the newest ${number(images.length)} of ${number(D.n_images)})` : "";
    $("filter-count").textContent = `${plural(n, "image")}${older}`;
    $("page-number").textContent = n ? `${number(first + 1)} to ${number(Math.min(n, first + PER_PAGE))}` : "none";
    $("previous").disabled = first === 0; $("next").disabled = first + PER_PAGE >= n;
  };
  $("previous").onclick = () => draw.turn(-1);
  $("next").onclick = () => draw.turn(1);
  for (const id of ["filter-text", "filter-experiment", "filter-state", "filter-doubt"]) {
    $(id).addEventListener(id === "filter-text" ? "input" : "change", draw.toStart);
  }
  draw.toStart();
}
function showNav() {
  const sections = [...document.querySelectorAll("main > section")].filter((each) => !each.hidden);
  $("nav").replaceChildren(...sections.map((each) => el("a", { href: `#${each.id}`, text: each.querySelector("h2").textContent })));
}
showHead(); showAlerts(); showToday(); showGalleries(); showPlates(); showExperiments(); showCourse();
showLearning(); showFailures(); showImages(); showNav();
document.documentElement.dataset.ready = "yes";
