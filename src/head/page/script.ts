/** What makes the status page live. It builds nodes, never markup: names come from outside. */

// Plain JavaScript for browsers, kept as text: it is not part of the program that runs here.
export const SCRIPT = `
"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const el = (tag, cls, text) => { const n = document.createElement(tag); if (cls) n.className = cls; if (text !== undefined) n.textContent = text; return n; };
const num = (v, d = 0) => v === null || v === undefined ? "-" : Math.abs(v) >= 9999.5 ? (v / 1000).toFixed(1) + "k" : v.toFixed(d);
const ms = (v) => v === null || v === undefined ? "-" : v < 1000 ? Math.round(v) + " ms" : (v / 1000).toFixed(2) + " s";
const time = (t) => new Date(t).toLocaleTimeString();
const INTERVAL = 2000, STALE_AFTER = 5 * INTERVAL, HIDDEN_MS = 60000;
let frame = null, frameAt = 0, source = null, retry = null, pause = 1000, hiddenTimer = null, head = null;
const sorts = { workers: null, models: null };

function bar(pct) {
  const cell = el("span");
  const b = el("span", "bar" + (pct >= 90 ? " full" : pct >= 70 ? " near" : ""));
  b.setAttribute("aria-hidden", "true");
  const i = el("i"); i.style.width = (pct === null ? 0 : Math.max(0, Math.min(100, pct))) + "%";
  b.append(i); cell.append(b, pct === null ? "-" : Math.round(pct) + "%");
  return cell;
}
const share = (a, b) => a === null || !b ? null : 100 * a / b;
const columns = {
  workers: [
    ["name", (r) => r.name], ["state", (r) => el("span", r.state, r.state + (r.state_detail ? " " + r.state_detail : ""))],
    ["model", (r) => r.models.map((m) => m.name + (m.engines > 1 ? " x" + m.engines : "")).join(", ") || "-"],
    ["gpu", (r) => bar(r.gpu_util_pct), (r) => r.gpu_util_pct], ["memory", (r) => bar(share(r.gpu_mem_used_bytes, r.gpu_mem_total_bytes)), (r) => share(r.gpu_mem_used_bytes, r.gpu_mem_total_bytes)],
    ["in_flight", (r) => num(r.in_flight), (r) => r.in_flight], ["queue", (r) => num(r.queue), (r) => r.queue],
    ["tokens", (r) => num(r.output_tokens_per_s, 1), (r) => r.output_tokens_per_s], ["seen", (r) => Math.round(r.seen_ms / 1000) + " s", (r) => r.seen_ms],
  ],
  models: [
    ["name", (r) => { const c = el("span"); c.append(el("code", "", r.name)); const b = el("button", "copy", "copy"); b.type = "button"; b.addEventListener("click", () => navigator.clipboard && navigator.clipboard.writeText(r.name)); c.append(b); if (r.alias_of) c.append(el("span", "dim", " alias of " + r.alias_of)); return c; }, (r) => r.name],
    ["ready", (r) => el("span", r.alias_of ? "dim" : r.ready === r.replicas ? "ready" : r.ready > 0 ? "changing" : r.starting > 0 ? "starting" : "failed", r.alias_of ? "alias" : r.ready + " of " + r.replicas + (r.starting ? ", " + r.starting + " starting" : "")), (r) => r.ready],
    ["in_flight", (r) => num(r.in_flight), (r) => r.in_flight], ["queued", (r) => num(r.queued), (r) => r.queued],
    ["requests", (r) => num(r.requests_per_s, 1), (r) => r.requests_per_s], ["tokens", (r) => num(r.output_tokens_per_s, 1), (r) => r.output_tokens_per_s],
    ["ttft", (r) => ms(r.ttft_ms && r.ttft_ms.p50), (r) => r.ttft_ms && r.ttft_ms.p50], ["errors", (r) => r.error_ratio === null ? "-" : (100 * r.error_ratio).toFixed(1) + "%", (r) => r.error_ratio],
  ],
};
function fill(id, rows) {
  const body = $(id).tBodies[0], cells = [...$(id).tHead.rows[0].cells], sort = sorts[id];
  if (sort) {
    const col = columns[id][sort.index], key = col[2] || ((r) => { const v = col[1](r); return typeof v === "string" ? v : v.textContent; });
    rows = [...rows].sort((a, b) => { const x = key(a), y = key(b); if (x === y) return a.name < b.name ? -1 : 1; if (x === null) return 1; if (y === null) return -1; return (x < y ? -1 : 1) * sort.direction; });
  }
  body.replaceChildren(...rows.map((row) => {
    const tr = el("tr");
    columns[id].forEach((col, i) => {
      const cell = i === 0 ? el("th") : el("td"); if (i === 0) cell.scope = "row";
      cell.className = cells[i].className; cell.append(col[1](row)); tr.append(cell);
    });
    return tr;
  }));
}
function counters(t) {
  const w = t.workers, bad = w.lost + w.failed + w.stale;
  const items = [[w.ready + " of " + w.total, "workers ready"], [t.models.ready + " of " + t.models.total, "models ready"], [num(t.requests_per_s, 1), "requests/s"], [num(t.output_tokens_per_s, 1), "tokens/s"], [ms(t.ttft_ms && t.ttft_ms.p50), "first token"], [num(t.in_flight), "in flight"], [num(t.queued), "queued"]];
  if (bad) items.push([String(bad), "need attention"]);
  $("counters").replaceChildren(...items.map(([v, k]) => { const li = el("li", bad && k === "need attention" ? "error" : ""); li.append(el("b", "", v), el("span", "", k)); return li; }));
  document.title = (w.lost ? "(" + w.lost + " lost) " : bad ? "(" + bad + " failing) " : "") + "llmnode " + location.host;
}
function show() {
  if (!frame) return;
  counters(frame.totals);
  fill("workers", frame.rows); fill("models", frame.models_beside);
  $("attention").replaceChildren(...frame.attention.map((a) => el("p", "error", a.text)));
  $("empty").hidden = frame.totals.workers.total > 0;
  $("tables").hidden = frame.totals.workers.total === 0;
  $("more").textContent = frame.matching > frame.rows.length ? "Only " + frame.rows.length + " of " + frame.matching + " workers are shown." : "";
  $("events").replaceChildren(...[...frame.events].reverse().map((e) => {
    const li = el("li", e.level === "info" ? "" : e.level === "warn" ? "changing" : "error"), t = el("time", "", time(e.time)); t.dateTime = e.time;
    li.append(t, (e.worker || e.model ? (e.worker || e.model) + ": " : "") + e.text); return li;
  }));
}
function clock() {
  const age = frame ? performance.now() - frameAt : null;
  const stale = age === null ? false : age > STALE_AFTER || !source;
  document.body.classList.toggle("stale", stale);
  $("live").textContent = age === null ? "connecting" : (stale ? "STALE " : "LIVE ") + (age / 1000).toFixed(0) + " s";
  if (stale) $("banner").textContent = "No word from the head for " + (age / 1000).toFixed(0) + " s: what you see is old. Trying again.";
}
function open() {
  if (source || document.hidden && hiddenTimer === "closed") return;
  clearTimeout(retry);
  source = new EventSource("/api/v1/watch?view=workers&sort=problems&limit=200&models_beside=50&interval=2s");
  source.addEventListener("hello", (e) => { const hello = JSON.parse(e.data); if (head && head !== hello.head.id) frame = null; head = hello.head.id; pause = 1000; });
  source.addEventListener("frame", (e) => { frame = JSON.parse(e.data); frameAt = performance.now(); show(); clock(); });
  source.onerror = () => { close(); retry = setTimeout(open, pause); pause = Math.min(15000, 2 * pause); clock(); };
}
function close() { if (source) source.close(); source = null; }
document.addEventListener("visibilitychange", () => {
  clearTimeout(hiddenTimer);
  if (document.hidden) hiddenTimer = setTimeout(() => { hiddenTimer = "closed"; close(); }, HIDDEN_MS);
  else { hiddenTimer = null; open(); }
});
for (const id of ["workers", "models"]) [...$(id).tHead.rows[0].cells].forEach((cell, index) => {
  const button = el("button", "", cell.textContent); button.type = "button"; cell.replaceChildren(button);
  button.addEventListener("click", () => {
    const before = sorts[id], direction = before && before.index === index ? -before.direction : columns[id][index][2] && index > 0 ? -1 : 1;
    sorts[id] = { index, direction };
    [...$(id).tHead.rows[0].cells].forEach((c, i) => i === index ? c.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : c.removeAttribute("aria-sort"));
    show();
  });
});
setInterval(clock, 1000);
open();
})();
`;
