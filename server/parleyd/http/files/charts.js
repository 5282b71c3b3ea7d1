// Draws the dashboard's pictures as SVG. Each picture has its content as text, too, in its accessible name.

const SVG = "http://www.w3.org/2000/svg";

export function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function picture(width, height, label, ...children) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

const text = (x, y, content, kind = "", anchor = "middle") =>
  svg("text", { x, y, class: kind, "text-anchor": anchor }, content);

// ---- the nodes

// What is known of a pair: each node that answers says whom it reaches.
export function linkBetween(one, other) {
  const known = [];
  if (one.answers) known.push(one.reaches.includes(other.name));
  if (other.answers) known.push(other.reaches.includes(one.name));
  if (!known.length || !known.some(Boolean)) return "down";
  return known.every(Boolean) ? "up" : "one-way";
}

const LINK_TEXTS = { up: "reach each other", "one-way": "reach each other one way only", down: "do not reach each other" };

export function drawNodes(nodes, leader) {
  const width = 360;
  const radius = nodes.length === 1 ? 0 : nodes.length === 2 ? 95 : 112;
  const start = nodes.length === 2 ? Math.PI : -Math.PI / 2;
  const at = nodes.map((_, number) => {
    const angle = start + (2 * Math.PI * number) / nodes.length;
    return { x: width / 2 + radius * Math.cos(angle), y: radius * Math.sin(angle) };
  });
  const lowest = Math.min(...at.map(({ y }) => y)), highest = Math.max(...at.map(({ y }) => y));
  for (const one of at) one.y += (lowest < -1 ? 58 : 34) - lowest;
  const height = highest - lowest + (lowest < -1 ? 112 : 90);
  const edges = [], told = [];
  nodes.forEach((one, i) => nodes.slice(i + 1).forEach((other, offset) => {
    const j = i + 1 + offset, kind = linkBetween(one, other);
    edges.push(svg("line", { class: `edge ${kind}`, x1: at[i].x, y1: at[i].y, x2: at[j].x, y2: at[j].y }));
    told.push(`${one.name} and ${other.name} ${LINK_TEXTS[kind]}`);
  }));
  const marks = nodes.map((node, number) => {
    const kind = !node.answers ? "silent" : node.name === leader ? "leader" : "follower";
    const role = !node.answers ? "no answer" : kind === "leader" ? "leads" : node.voter ? node.role : "learner";
    const { x, y } = at[number];
    return svg("g", { class: `node ${kind}` }, svg("circle", { cx: x, cy: y, r: 30 }),
      text(x, y + 5, short(node.name, 7), "name"), ...label(x, isAbove(at, number) ? y - 38 : y + 46, role));
  });
  const leads = leader ? `${leader} leads.` : "No leader is known.";
  return picture(width, height, `${leads} ${told.join(". ")}.`, ...edges, ...marks);
}

// The label of a node in the upper half stands above it, where no edge is.
const isAbove = (at, number) => at.length > 2 && at[number].y < (Math.min(...at.map(({ y }) => y)) + Math.max(...at.map(({ y }) => y))) / 2;

// A text with a ground behind it, so that an edge does not cross it.
const label = (x, y, content) => [
  svg("rect", { x: x - content.length * 4 - 4, y: y - 12, width: content.length * 8 + 8, height: 17, rx: 4, class: "ground" }),
  text(x, y, content, "role"),
];

const short = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

const span = (ms) => (ms < 120_000 ? `${Math.round(ms / 1000)} seconds` : `${Math.round(ms / 60_000)} minutes`);
const ago = (ms) => `${span(ms)} ago`.replace("minutes", "min").replace("seconds", "s");

// ---- messages in each second

export function drawRate(seconds, nowMs, spanMs, width) {
  const height = 130, left = 40, top = 10, bottom = 108;
  const most = Math.max(1, ...seconds.map(([, rate]) => rate));
  const limit = niceAbove(most);
  const x = (at) => left + ((at - nowMs + spanMs) / spanMs) * (width - left - 4);
  const y = (rate) => bottom - (rate / limit) * (bottom - top);
  const points = seconds.filter(([at]) => at >= nowMs - spanMs).map(([at, rate]) => `${x(at).toFixed(1)},${y(rate).toFixed(1)}`);
  const ends = points.length ? [points[0].split(",")[0], points.at(-1).split(",")[0]] : [left, left];
  return picture(width, height, `Messages stored in each second of the last ${span(spanMs)}, at most ${Math.round(most)}.`,
    ...[0, 0.5, 1].flatMap((part) => [
      svg("line", { class: "grid", x1: left, x2: width, y1: y(limit * part), y2: y(limit * part) }),
      text(left - 5, y(limit * part) + 4, compact(limit * part), "muted", "end"),
    ]),
    svg("polygon", { class: "area", points: `${ends[0]},${bottom} ${points.join(" ")} ${ends[1]},${bottom}` }),
    svg("polyline", { class: "line", points: points.join(" ") }),
    text(left, height - 4, ago(spanMs), "muted", "start"), text(width - 4, height - 4, "now", "muted", "end"));
}

function niceAbove(value) {
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * size).find((limit) => limit >= value);
}

export const compact = (value) =>
  value >= 1e6 ? `${+(value / 1e6).toFixed(1)}M` : value >= 1e3 ? `${+(value / 1e3).toFixed(1)}k` : String(+value.toFixed(1));

// ---- times of answers

export function drawAnswers({ bounds, counts }, width) {
  const first = counts.findIndex(Boolean), last = counts.findLastIndex(Boolean);
  const shown = counts.slice(Math.max(0, first - 1), Math.max(6, last + 2));
  const from = Math.max(0, first - 1), height = 130, bottom = 104, most = Math.max(1, ...shown);
  const step = width / Math.max(6, shown.length);
  const name = (number) => {
    const words = number < bounds.length ? milliseconds(bounds[number]) : `> ${milliseconds(bounds.at(-1))}`;
    return step < 56 && number > from ? words.replace(" ms", "") : words; // where it is narrow, the first one has the unit
  };
  const bars = shown.flatMap((count, offset) => {
    const x = offset * step, tall = count ? Math.max(2, (count / most) * (bottom - 18)) : 0;
    return [svg("rect", { class: "bar", x: x + 3, y: bottom - tall, width: step - 6, height: tall }),
      ...(count ? [text(x + step / 2, bottom - tall - 4, compact(count))] : []),
      text(x + step / 2, height - 8, name(from + offset), "muted")];
  });
  return picture(width, height, answersText({ bounds, counts }), svg("line", { class: "grid", x1: 0, x2: width, y1: bottom, y2: bottom }), ...bars);
}

export function quantile({ bounds, counts }, part) {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let seen = 0;
  for (const [number, count] of counts.entries()) {
    seen += count;
    if (total && seen >= part * total) return number < bounds.length ? milliseconds(bounds[number]) : `more than ${milliseconds(bounds.at(-1))}`;
  }
  return "";
}

export function answersText(answers) {
  const half = quantile(answers, 0.5);
  return half ? `Half within ${half}, 99 of 100 within ${quantile(answers, 0.99)} (5 min).`
    : "No message came to this node in the last five minutes.";
}

const milliseconds = (seconds) => (seconds >= 1 ? `${seconds} s` : `${+(seconds * 1000).toFixed(1)} ms`);

// ---- who led when

export function drawLeaders(leaders, nowMs, spanMs, width) {
  const height = 46, begin = nowMs - spanMs;
  const x = (at) => (Math.max(0, Math.min(spanMs, at - begin)) / spanMs) * width;
  const told = [];
  const bars = leaders.flatMap(([at, name, term], number) => {
    const end = number + 1 < leaders.length ? leaders[number + 1][0] : nowMs;
    if (end < begin) return [];
    told.push(name ? `${name} in term ${term}` : "nobody");
    const wide = Math.max(2, x(end) - x(at)), odd = number % 2 ? "odd" : "";
    const bar = svg("rect", { class: `reign ${name ? odd : "none"}`, x: x(at), y: 2, width: wide, height: 24 });
    return wide > 70 && name ? [bar, text(x(at) + 6, 19, `${short(name, 9)} · term ${term}`.slice(0, wide / 7), `on-bar reign-name ${odd}`, "start")] : [bar];
  });
  return picture(width, height, `Who led in the last ${span(spanMs)}: ${told.join(", then ") || "not known"}.`, ...bars,
    text(0, height - 4, ago(spanMs), "muted", "start"), text(width, height - 4, "now", "muted", "end"));
}

// ---- how full a queue is

export function drawTrack(part) {
  return svg("svg", { viewBox: "0 0 100 3", preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("rect", { class: "bar", x: 0, y: 0, width: Math.min(100, part * 100), height: 3 }));
}
