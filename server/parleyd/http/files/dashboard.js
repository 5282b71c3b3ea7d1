// Asks the node for its state again and again, and shows it. It asks nobody while the page is hidden.

import { answersText, compact, drawAnswers, drawLeaders, drawNodes, drawRate, drawTrack } from "./charts.js";
import { showTargets, startAdministration } from "./administration.js";

const LEAST_SPAN_MS = 60_000, MOST_SPAN_MS = 300_000, TIMEOUT_MS = 5_000, RETRY_MS = 2_000;
const $ = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const show = (id, ...children) => $(id).replaceChildren(...children);

// Charts are drawn in the size that they are shown in, so that their texts stay readable on a phone.
const widthOf = (id) => Math.max(240, $(id).clientWidth);

const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

// A reader hears a text that changes. So one that stays is not set again.
function tell(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

// ---- what is shown

function render(state) {
  const leader = leaderOf(state);
  document.title = `${leader ? `${leader} leads` : "No leader"} · Parley cluster`;
  tell("cluster", state.cluster ? `cluster ${state.cluster.slice(0, 8)}` : "");
  tell("summary", summary(state, leader));
  const recovered = state.nodes.some((node) => node.recovered)
    ? ["This cluster was recovered from one node after a majority was lost. What only the others had is missing."] : [];
  show("reasons", ...[...state.reasons, ...recovered].map((reason) => element("li", {}, reason)));
  show("picture", drawNodes(state.nodes, leader));
  show("nodes", ...state.nodes.map((node) => nodeCard(node, leader, state)));
  const spanMs = spanOf(state);
  const rate = state.seconds.length ? state.seconds.at(-1)[1] : 0;
  show("rate-text", element("strong", {}, compact(rate)), " now");
  show("rate", drawRate(state.seconds, state.now_ms, spanMs, widthOf("rate")));
  tell("answers-text", answersText(state.answers));
  show("answers", drawAnswers(state.answers, widthOf("answers")));
  show("leaders", drawLeaders(state.leaders, state.now_ms, spanMs, widthOf("leaders")));
  showEvents(state.events);
  showTargets(state.nodes);
  show("queues", ...(state.queues ?? []).map(queueRow));
  const own = state.nodes.find((node) => node.name === state.node);
  tell("footer", `Seen from ${state.node}${own?.version ? `, release ${own.version}, level ${own.level}` : ""}. Queues, times and events are this node's own.`);
}

// The leader that most of the nodes that answer know, in the newest term.
function leaderOf(state) {
  const known = state.nodes.filter((node) => node.answers && node.leader);
  return known.sort((one, other) => other.term - one.term)[0]?.leader ?? "";
}

// The charts begin where the node's memory does.
const spanOf = ({ now_ms, leaders }) =>
  Math.max(LEAST_SPAN_MS, Math.min(MOST_SPAN_MS, now_ms - (leaders[0]?.[0] ?? now_ms)));

function summary(state, leader) {
  if (state.phase !== "serving") return `${state.node} is ${state.phase}.`;
  const voters = state.nodes.filter((node) => node.voter), up = voters.filter((node) => node.answers);
  const term = Math.max(0, ...state.nodes.map((node) => node.term ?? 0));
  const nodes = `${up.length} of ${voters.length} nodes answer`;
  const spare = up.length - (Math.floor(voters.length / 2) + 1);
  if (!leader) return `No leader. ${nodes}.`;
  const bears = spare > 0 ? `${spare} more may fail` : spare === 0 ? "no more may fail" : "no majority";
  return `${leader} leads in term ${term}. ${nodes}, ${bears}.`;
}

function nodeCard(node, leader, state) {
  const name = element("h3", {}, node.name);
  if (!node.answers) {
    return element("li", {}, name, element("span", { class: "badge bad" }, "no answer"),
      element("p", { class: "problem" }, `${state.node} gets no answer from it. Is it running?`));
  }
  const role = node.name === leader ? "leader" : node.voter ? node.role : "learner";
  const kind = node.name === leader ? "good" : "muted";
  const facts = [
    ["term", String(node.term)],
    ["lag", node.lag ? `${node.lag} entries` : "none", node.lag > 1000 ? "warn" : ""],
    ["reaches", node.reaches.filter((other) => other !== node.name).join(", ") || (state.nodes.length > 1 ? "nobody" : "no others")],
    ["devices", compact(node.clients)],
    ["disk free", node.disk_free_bytes ? bytes(node.disk_free_bytes) : "not known", node.disk_free_bytes && node.disk_free_bytes < node.disk_reserve_bytes ? "bad" : ""],
    ["disk write", node.log_write_ms ? `${node.log_write_ms} ms` : "none yet"],
    certificate(node, state.now_ms),
    ["backup", backup(node, state.now_ms)],
    ["files", node.open_files_limit ? `${node.open_files} of ${compact(node.open_files_limit)}` : String(node.open_files)],
    ["up", duration(node.uptime_s)],
  ];
  return element("li", {}, name, element("span", { class: `badge ${kind}` }, role),
    element("dl", { class: "facts" }, ...facts.map(([term, value, mark]) =>
      element("div", {}, element("dt", {}, `${term} `), element("dd", mark ? { class: mark } : {}, value)))),
    ...node.problems.map((problem) => element("p", { class: "problem" }, problem)));
}

function certificate(node, nowMs) {
  if (!node.certificate_expires_at_ms) return ["certificate", "none"];
  const days = Math.floor((node.certificate_expires_at_ms - nowMs) / 86_400_000);
  return ["certificate", days < 0 ? "expired" : `${days} days`, days < 7 ? "bad" : days < 30 ? "warn" : ""];
}

function backup(node, nowMs) {
  if (!node.backup_interval_s) return "not scheduled";
  return node.last_backup_at_ms ? `${duration((nowMs - node.last_backup_at_ms) / 1000)} ago` : "none yet";
}

function showEvents(events) {
  const key = JSON.stringify(events.at(-1) ?? "") + events.length;
  if ($("events").dataset.key === key && events.length) return;
  $("events").dataset.key = key;
  const marks = { good: "✓", change: "•", bad: "!" };
  show("events", ...events.toReversed().map(([at, kind, text]) => element("li", {},
    element("time", { datetime: new Date(at).toISOString() }, clock(at)),
    element("span", { class: kind === "change" ? "muted" : kind, "aria-hidden": "true" }, marks[kind]),
    element("span", {}, text))));
}

function queueRow({ name, unit, used, max }) {
  const amount = (value) => (unit === "bytes" ? bytes(value) : compact(value));
  const words = name.replaceAll("_", " ");
  return element("li", {}, element("div", {}, element("span", {}, words), element("span", { class: "muted" }, `${amount(used)} of ${amount(max)}`)),
    element("div", { class: "track" }, drawTrack(max ? used / max : 0)));
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let number = 0;
  while (value >= 1024 && number < units.length - 1) { value /= 1024; number += 1; }
  return `${value >= 100 || !number ? Math.round(value) : value.toFixed(1)} ${units[number]}`;
}

function duration(seconds) {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} days`;
}

// ---- asking

let seenAt = 0;

async function ask() {
  const reply = await fetch("/dashboard.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
  if (!reply.ok) throw new Error((await reply.json()).error);
  return reply.json();
}

async function follow() {
  for (;;) {
    let waitMs = RETRY_MS;
    if (!document.hidden) {
      try {
        const state = await ask();
        seenAt = Date.now();
        render(state);
        $("stale").hidden = true;
        waitMs = state.ask_again_ms;
      } catch {
        const since = seenAt ? ` since ${clock(seenAt)}. What you see is from then` : "";
        tell("stale", `This node does not answer${since}. Open the page of another node.`);
        $("stale").hidden = false;
      }
      document.body.dataset.state = $("stale").hidden ? "live" : "stale";
    }
    await Promise.race([
      new Promise((done) => setTimeout(done, waitMs)),
      new Promise((done) => document.hidden && document.addEventListener("visibilitychange", done, { once: true })),
    ]);
  }
}

startAdministration();
follow();
