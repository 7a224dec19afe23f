"use strict";
// Rows over the steps of an episode, below each other, with one cursor.

// A path through values at x0, x0 + 1, ...; missing values interrupt it.
function linePath(values, low, high, x0 = 0) {
  const scale = high > low ? 100 / (high - low) : 0;
  let path = "";
  let pen = "M";
  values.forEach((value, i) => {
    if (value === null) { pen = "M"; return; }
    path += `${pen}${x0 + i} ${(high > low ? 100 - (value - low) * scale : 50).toFixed(2)}`;
    pen = "L";
  });
  return path;
}

function extent(lists) {
  let [low, high] = [Infinity, -Infinity];
  for (const list of lists) {
    for (const value of list) {
      if (value === null) continue;
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low > high) return [0, 1];
  const margin = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
  return [low - margin, high + margin];
}

class Timeline {
  constructor(player) {
    this.player = player;
    this.rows = h("div.rows");
    this.cursor = h("div.cursor", {"aria-hidden": "true"});
    this.element = h("div.timeline", {}, this.rows, this.cursor);
    player.onStep((step) => this.element.style.setProperty("--at", String(step / player.steps)));
    const seek = (event) => {
      const svg = this.rows.querySelector("svg").getBoundingClientRect();
      player.seek(Math.round(((event.clientX - svg.left) / svg.width) * player.steps));
    };
    this.rows.addEventListener("pointerdown", (event) => {
      if (!event.target.closest("svg")) return;
      seek(event);
      if (event.pointerType === "mouse") this.rows.setPointerCapture(event.pointerId);
    });
    this.rows.addEventListener("pointermove", (event) => { if (event.buttons && this.rows.hasPointerCapture(event.pointerId)) seek(event); });
  }

  // A row with a label, and shapes in the coordinates steps × 100; `scale` are the values at the bottom and the top.
  row(label, shapes, {kind = "line", scale = null, title = ""} = {}) {
    const svg = s("svg", {viewBox: `0 0 ${this.player.steps} 100`, preserveAspectRatio: "none", class: kind}, ...shapes);
    this.rows.append(h("div.lane." + kind, {title}, h("span.name", {}, label,
      scale ? h("small", {}, ` ${short(scale[0])} … ${short(scale[1])}`) : null), svg));
    return svg;
  }

  mark(step, label, kind) {
    if (step === null || step === undefined) return;
    this.element.append(h("div.mark." + kind, {style: {"--at": step / this.player.steps}}, h("span", {}, label)));
  }
}

// Everything that happened in an episode, over its steps.
function episodeTimeline(player, data) {
  const timeline = new Timeline(player);
  const {records, steps} = data;
  const latencies = records ? records.queries.map((query) => query.latency) : data.latency ?? [];
  const starts = records ? records.queries.map((query) => query.step) : latencies.map((_, i) => (i * steps) / latencies.length);
  for (const fork of data.forks) forkRow(timeline, fork, starts);
  if (latencies.some(Boolean)) latencyRow(timeline, data, latencies, starts);
  if (records) {
    lineRow(timeline, "reward", [["executed", records.rewards]]);
    const things = [...new Set([...Object.keys(records.contacts), ...Object.keys(records.held)])];
    for (const thing of things) {
      const spans = (of, kind) => (of[thing] ?? []).map(([first, last]) => s("rect", {x: first, width: last - first + 1, y: 20, height: 60, class: kind}));
      timeline.row(`touches ${words(thing)}`, [...spans(records.contacts, "touch"), ...spans(records.held, "hold")], {kind: "band", title: "Light: a gripper touches it. Dark: both fingers press against it."});
    }
    const heights = Object.entries(records.heights).filter(([, z]) => Math.max(...z) - Math.min(...z) > 0.002);
    for (const [thing, z] of heights) lineRow(timeline, `height of ${words(thing)}, m`, [["executed", z]]);
  }
  timeline.mark(records?.success_step, "success", "success");
  timeline.mark(data.ending?.step, data.ending?.name, "failure");
  return timeline.rows.children.length ? timeline.element : null;
}

function lineRow(timeline, label, series, extra = []) {
  const scale = extent([...series.map(([, values]) => values), ...extra.map(({values}) => values)]);
  const paths = extra.map(({values, at}) => s("path", {d: linePath(values, ...scale, at), class: "chunk"}));
  paths.push(...series.map(([kind, values]) => s("path", {d: linePath(values, ...scale), class: kind})));
  return {svg: timeline.row(label, paths, {scale}), scale};
}

function latencyRow(timeline, data, latencies, starts) {
  const totals = latencies.map((stages) => (stages ?? []).reduce((sum, ms) => sum + ms, 0));
  const most = Math.max(...totals);
  const rects = latencies.flatMap((stages, i) => {
    let y = 100;
    const width = ((starts[i + 1] ?? timeline.player.steps) - starts[i]) * 0.86;
    return (stages ?? []).map((ms, stage) => {
      const height = (100 * ms) / most;
      y -= height;
      return s("rect", {x: starts[i], width, y, height, class: `stage${stage}`});
    });
  });
  timeline.row("latency of queries, ms", rects, {kind: "bars", scale: [0, most]});
}

// Success of continuations that began at queries, with intervals.
function forkRow(timeline, fork, starts) {
  const shapes = fork.points.map((point) => s("line", {x1: starts[point.query], x2: starts[point.query], y1: 100 - 100 * point.low, y2: 100 - 100 * point.high, class: "arm"}));
  shapes.push(s("path", {d: fork.points.map((point, i) => `${i ? "L" : "M"}${starts[point.query]} ${100 - 100 * point.rate}`).join(""), class: "fork"}));
  timeline.row(`success of forks, ${fork.variant}`, shapes, {kind: "line fork", scale: [0, 1],
    title: fork.points.map((point) => `query ${point.query}: ${percent(point.rate)} % [${percent(point.low)}, ${percent(point.high)}] of ${point.count}`).join("\n")});
}

// Curves of every action dimension: what the chunks said, and what was executed.
function actionCurves(player, data, other) {
  const {records} = data;
  const timeline = new Timeline(player);
  const updates = [];
  const executed = records.executed ?? records.actions;
  const chunked = !other && records.queries.some((query) => query.chunk.length && query.chunk[0].length === records.action_names.length);
  records.action_names.forEach((name, dimension) => {
    const series = [["executed", executed.map((action) => action[dimension])]];
    if (other) series.push(["other", (other.records.executed ?? other.records.actions).map((action) => action[dimension] ?? null)]);
    const chunks = chunked ? records.queries.map((query) => ({at: query.step, values: query.chunk.map((action) => action[dimension])})) : [];
    const {svg, scale} = lineRow(timeline, words(name), series, chunks);
    if (chunked && hasExplanations(data)) {
      const band = svg.appendChild(s("path", {class: "band"}));
      updates.push((query) => band.setAttribute("d", spreadBand(data.explained[query], chunks[query], dimension, scale)));
    }
    if (chunked) {
      const current = svg.appendChild(s("path", {class: "current"}));
      updates.push((query) => current.setAttribute("d", linePath(chunks[query].values, ...scale, chunks[query].at)));
    }
  });
  if (!chunked && !other) chunkRows(timeline, records);
  let shown = null;
  player.onStep((step) => {
    const query = queryAt(records, step);
    if (query !== shown) updates.forEach((update) => update(query));
    shown = query;
  });
  return timeline.element;
}

// Chunks of a policy whose actions are of another size than the suite's.
function chunkRows(timeline, records) {
  const size = Math.max(0, ...records.queries.map((query) => query.chunk[0]?.length ?? 0));
  for (const dimension of range(size)) {
    lineRow(timeline, `policy's action ${dimension}`, [], records.queries.map((query) => ({at: query.step, values: query.chunk.map((action) => action[dimension] ?? null)})));
  }
}

function stateCurves(player, data) {
  const timeline = new Timeline(player);
  data.records.state_names.forEach((name, k) => lineRow(timeline, words(name), [["executed", data.records.states.map((state) => state[k])]]));
  return timeline.element;
}
