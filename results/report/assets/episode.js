"use strict";
// The page of an episode, and of two side by side from the first step where they differ.
const cache = new Map();

function loadEpisode(id) {
  if (!cache.has(id)) cache.set(id, simloop.load(`episodes/${id}/data`));
  return cache.get(id);
}

// First step at which two episodes differ in what was executed; null if one repeats the other.
function firstDifference(a, b) {
  const [x, y] = [a, b].map(({records}) => records.executed ?? records.actions);
  const steps = Math.min(x.length, y.length);
  for (let step = 0; step < steps; step += 1) {
    if (x[step].some((value, k) => value !== y[step][k])) return step;
  }
  return x.length === y.length ? null : steps;
}

function episodePage(run, shown, data, ids, step) {
  const [first, second] = data;
  const player = new Player(Math.max(...data.map((one) => one.steps)), first.records?.control_hz);
  const both = second?.records && first.records;
  const difference = both ? firstDifference(first, second) : null;
  const elements = [
    episodeHeader(run, shown, data),
    both ? h("p.statement", {}, difference !== null
      ? difference ? `Both episodes executed the same actions up to step ${difference}, the first where they differ.` : "The episodes differ from their first action on."
      : "Both episodes executed the same actions.") : null,
    transport(player, first.records),
    h("div.sides", {}, data.map((one, i) => side(player, one, ids[i], data.length > 1))),
  ];
  if (first.records) elements.push(curves(player, first, both ? second : null));
  if (!second) elements.push(...facts(player, first));
  player.seek(step ?? (difference ?? 0));
  return {elements, player};
}

function episodeHeader(run, shown, data) {
  const {episodes, overview} = run;
  const [first] = data;
  const here = shown[0];
  const go = (i, text) => (i === null ? h("span.small.off", {}, text) : h("a", {href: address({episode: episodes.name(i)})}, text));
  const beside = episodes.start.get(episodes.startOf(here)).filter((i) => i !== here);
  const links = beside.map((i) => h("span", {}, h("a", {href: address({episode: episodes.name(i)})}, badge(OUTCOMES[episodes.outcome[i]], episodes.policyName(i))), " ",
    i === shown[1] ? h("a.small", {href: address({episode: episodes.name(here)})}, "alone") : h("a.small", {href: address({episode: episodes.name(here), with: episodes.name(i)})}, "side by side")));
  return h("header", {}, h("nav", {}, h("a", {href: "#"}, overview.title), go(episodes.next(here, -1), "‹ previous"), go(episodes.next(here, 1), "next ›"), go(episodes.nextFailure(here), "next failure"),
    h("span.keys.small", {}, h("kbd", {}, "space"), " play ", h("kbd", {}, "←"), h("kbd", {}, "→"), " step ", h("kbd", {}, "shift"), " query ", h("kbd", {}, "n"), " next failure")),
    h("h1", {}, data.map((one) => `${one.policy} / ${one.task} / ${one.number}`).join("  and  ")),
    first.records?.queries.length ? h("p.prompt", {}, `“${first.records.queries[0].instruction}”`) : null,
    links.length ? h("p.beside", {}, "Same initial state: ", links) : null);
}

function outcomeText(data) {
  const {outcome, ended_by: ended, steps, max_steps: limit, ending} = data;
  const words = {success: `success after ${steps} steps`, step_limit: `failure: step limit of ${limit || steps} steps`, error: "error"}[ended] ?? `${outcome}: ${ended.replaceAll("_", " ")} after ${steps} steps`;
  return words + (ending ? ` · ${ending.name}${ending.step === null ? "" : ` (step ${ending.step})`}` : "");
}

function side(player, data, id, paired) {
  const {records} = data;
  const overlays = [];
  const parts = [h("p", {}, paired ? h("strong", {}, `${data.policy} `) : null, badge(data.outcome, outcomeText(data)))];
  if (data.error) parts.push(h("pre", {}, data.error));
  if (data.unreadable) parts.push(h("p.notice", {}, data.unreadable));
  const views = h("div.views");
  const film = data.video ? h("canvas", {"aria-hidden": "true"}) : null;
  const inputs = data.images ? inputViews(player, data, id, overlays) : [];
  if (film) views.append(h("figure", {}, videoView(player, data, id, film), h("figcaption.small", {}, "cameras of the suite")));
  if (inputs.length) views.append(h("div.inputs", {"aria-label": "What the policy saw"}, inputs));
  if (!data.video && !views.children.length) {
    parts.push(h("p.notice", {}, "This episode has neither a video nor step records. This plays it again, with both: ", h("code", {}, `simloop play ${data.run} ${data.command_name} --record steps`)));
  } else if (!records) {
    parts.push(h("p.notice", {}, "There are no step records of this episode: chunks, actions and contacts are unknown. This plays it again, with them: ", h("code", {}, `simloop play ${data.run} ${data.command_name} --record steps`)));
  }
  parts.push(views, attentionSwitch(player, data, overlays, inputs), ...overlaySwitches(player, data, id, overlays, film, inputs));
  const timeline = episodeTimeline(player, data);
  if (timeline) parts.push(timeline, stageLegend(player, data));
  return h("section.side", {}, parts.filter(Boolean));
}

// Legend of the stages of latency, with the milliseconds of the latest query.
function stageLegend(player, data) {
  const latencies = data.records ? data.records.queries.map((query) => query.latency) : data.latency;
  if (!latencies?.some(Boolean)) return null;
  const values = data.stages.map(() => h("b"));
  const total = h("b");
  player.onStep((step) => {
    const query = data.records ? queryAt(data.records, step) : Math.min(latencies.length - 1, Math.floor((step * latencies.length) / Math.max(1, data.steps)));
    const stages = latencies[query] ?? [];
    values.forEach((value, i) => { value.textContent = stages.length ? short(stages[i]) : "–"; });
    total.textContent = stages.length ? short(stages.reduce((a, b) => a + b, 0)) : "–";
  });
  return h("p.legend.small", {}, "ms: ", data.stages.map((stage, i) => h("span", {}, h(`i.swatch.stage${i}`), `${stage} `, values[i])), h("span", {}, "total ", total));
}

function curves(player, data, other) {
  const legend = other
    ? [h("i.sample.executed"), `${data.policy} `, h("i.sample.other"), other.policy]
    : [h("i.sample.executed"), "executed ", h("i.sample.chunk"), "chunks ", h("i.sample.current"), "chunk of this query", hasExplanations(data) ? " (band: ± 1 standard deviation over its noise)" : ""];
  return h("section", {}, h("h2", {}, "Actions"), h("p.small.legend", {}, legend), actionCurves(player, data, other),
    data.records.states && !other ? h("details", {}, h("summary", {}, "States"), stateCurves(player, data)) : null);
}

// The query at the cursor in numbers, and what is known of the episode.
function facts(player, data) {
  const {records} = data;
  const made = [];
  if (records?.queries.length) {
    const body = h("div");
    let shown = null;
    player.onStep((step) => {
      const query = queryAt(records, step);
      if (query === shown) return;
      shown = query;
      const {step: at, instruction, state, chunk, undecodable} = records.queries[query];
      const names = chunk[0]?.length === records.action_names.length ? records.action_names.map(words) : range(chunk[0]?.length ?? 0).map(String);
      body.replaceChildren(h("p", {}, h("strong", {}, `Query ${query}`), ` at step ${at}: “${instruction}”`, undecodable ? " Its tokens decode to no chunk." : ""),
        h("p.small", {}, `state: ${state.map((value, i) => `${state.length === records.state_names.length ? `${words(records.state_names[i])} ` : ""}${short(value)}`).join(", ")}`),
        h("div.scroll", {}, h("table", {}, h("thead", {}, h("tr", {}, h("th", {scope: "col"}, "action"), names.map((name) => h("th", {scope: "col"}, name)))),
          h("tbody", {}, chunk.map((action, i) => h("tr", {}, h("th", {scope: "row"}, String(i)), action.map((value) => h("td", {}, short(value)))))))));
    });
    made.push(h("details", {}, h("summary", {}, "Query in numbers"), body));
  }
  const rows = [["policy", data.policy], ["suite", data.suite], ["protocol", data.protocol], ["task", data.task], ["episode", data.number], ["seed", data.seed], ["outcome", `${data.outcome} (${data.ended_by})`],
    ["steps", `${data.steps} of at most ${data.max_steps || "?"}`], ["queries", data.queries], ["undecodable answers", data.undecodable], ["reward", short(data.reward)], ["attempts", data.attempts],
    ["duration", `${short(data.wall_s)} s`], ["records", records ? `${records.level}, ${records.source}, ${records.renderer || "no images"}` : "none"]];
  made.push(h("details", {}, h("summary", {}, "Record"), h("div.scroll", {}, h("table.record", {}, h("tbody", {}, rows.map(([name, value]) => h("tr", {}, h("th", {scope: "row"}, name), h("td", {}, String(value)))))))));
  if (records) made.push(h("p.small", {}, "In a terminal: ", h("code", {}, `simloop debug --from ${data.run} ${data.command_name} --at 0`), " steps through it, and ",
    h("code", {}, `simloop explain ${data.run} ${data.command_name} --at 0`), " shows what a model of the pi0 family looked at."));
  return made;
}
