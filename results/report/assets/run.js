"use strict";
// The page of a run: means with intervals, the outcome of every episode, and moments at which episodes were lost.
const SHAPES = ["circle", "square", "triangle", "diamond", "ring"];
const SIZES = [[12, 20], [60, 11], [250, 8], [Infinity, 5]]; // Pixels of a cell by the number of episodes in a block.

// Index of the episodes of a run: names, order, filters and neighbours.
class Episodes {
  constructor(overview) {
    Object.assign(this, overview.episodes);
    this.overview = overview;
    this.count = this.id.length;
    this.filter = {policy: "", task: "", outcome: "", disagree: false};
    const planned = (i) => [this.protocol[i], this.task[i], this.policy[i], this.number[i]];
    this.order = range(this.count).sort((a, b) => {
      const [x, y] = [planned(a), planned(b)];
      const at = x.findIndex((value, k) => value !== y[k]);
      return at < 0 ? 0 : x[at] - y[at];
    });
    this.start = new Map(); // Episodes with one initial state, of all policies.
    this.byName = new Map();
    for (const i of this.order) {
      const start = this.startOf(i);
      if (!this.start.has(start)) this.start.set(start, []);
      this.start.get(start).push(i);
      this.byName.set(this.name(i), i);
    }
  }

  startOf(i) { return `${this.protocol[i]}/${this.task[i]}/${this.number[i]}`; }
  policyName(i) { return this.overview.policies[this.policy[i]]; }

  // POLICY/TASK/NUMBER, with the protocol where there are several.
  name(i) {
    const {names, tasks, protocols} = this.overview;
    const parts = [names[this.policy[i]], tasks[this.task[i]], this.number[i]];
    if (protocols.length > 1) parts.splice(1, 0, protocols[this.protocol[i]].protocol);
    return parts.join("/");
  }

  shown(i) {
    const {policy, task, outcome, disagree} = this.filter;
    return (policy === "" || this.policy[i] === Number(policy)) && (task === "" || this.task[i] === Number(task))
      && (outcome === "" || this.outcome[i] === Number(outcome))
      && (!disagree || new Set(this.start.get(this.startOf(i)).map((k) => this.outcome[k]).filter((o) => o < 2)).size > 1);
  }

  // The next shown episode after i in the order of the matrix that passes the test; backwards with step −1.
  next(i, step, test = () => true) {
    const from = i === null ? (step > 0 ? -1 : this.count) : this.order.indexOf(i);
    for (let at = from + step; at >= 0 && at < this.count; at += step) {
      if (this.shown(this.order[at]) && test(this.order[at])) return this.order[at];
    }
    return null;
  }

  nextFailure(i, step = 1) { return this.next(i, step, (k) => this.outcome[k] > 0); }
}

// Means of the policies as dots on a scale from 0 to 100 %, with intervals and a tick per task.
function meansPlot(overview) {
  const several = overview.protocols.length > 1;
  const parts = overview.protocols.map((protocol, index) => {
    const means = overview.means.filter((mean) => mean.protocol === index);
    const rows = means.map((mean) => {
      const place = (rate) => `${100 * rate}%`;
      const track = h("div.track", {}, mean.tasks.filter((task) => task.rate !== null).map((task) =>
        h("i.tick", {style: {left: place(task.rate)}, title: `${overview.tasks[task.task]}: ${percent(task.rate)} %`})));
      if (mean.rate !== null) {
        track.append(
          h("i.arm.p" + mean.policy % 7, {style: {left: place(mean.low), width: place(mean.high - mean.low)}}),
          h(`i.dot.${SHAPES[mean.policy % SHAPES.length]}.p${mean.policy % 7}`, {style: {left: place(mean.rate)}}));
      }
      const interval = mean.low === null ? "" : ` [${percent(mean.low)}, ${percent(mean.high)}]`;
      return h("div.mean", {"data-policy": overview.names[mean.policy]}, h("span.name", {}, overview.policies[mean.policy]), track,
        h("span.value", {}, h("strong", {}, percent(mean.rate)), `${interval} `, h("small", {},
          `${mean.successes}/${mean.completed}${mean.errors ? `, ${plural(mean.errors, "error")}` : ""}`)));
    });
    return h("div.means", {}, several ? h("h3", {}, protocol.protocol) : null, rows,
      h("div.mean.scale", {}, h("span.name"), h("div.axis", {}, [0, 25, 50, 75, 100].map((x) => h("span", {style: {left: `${x}%`}}, String(x)))), h("span.value")));
  });
  return h("section", {"aria-label": "Means"}, h("h2", {}, "Success in %, mean over tasks with 95 % interval"), parts,
    h("p.small", {}, "Thin marks are the tasks. Numbers are mean, interval, successes / completed episodes."));
}

// The outcome of every episode: a row per task, a block per policy, a cell per episode; a place in a block is one initial state.
function matrix(overview, episodes) {
  const parts = overview.protocols.map((protocol, index) => {
    const policies = range(overview.policies.length).filter((policy) =>
      overview.plans.some((plan) => plan.protocol === index && plan.policies.includes(policy))
      || overview.means.some((mean) => mean.protocol === index && mean.policy === policy));
    const blocks = new Map();
    for (const i of episodes.order) {
      if (episodes.protocol[i] !== index) continue;
      const key = `${episodes.task[i]}/${episodes.policy[i]}`;
      if (!blocks.has(key)) blocks.set(key, []);
      blocks.get(key).push(i);
    }
    const planned = (policy, task) => Math.max(0, ...overview.plans.filter((plan) => plan.protocol === index
      && plan.policies.includes(policy) && (!plan.tasks.length || plan.tasks.includes(task))).map((plan) => plan.episodes));
    const tasks = range(overview.tasks.length).filter((task) => policies.some((policy) => blocks.has(`${task}/${policy}`) || planned(policy, task)));
    const largest = Math.max(1, ...[...blocks.values()].map((own) => own.length), ...tasks.flatMap((task) => policies.map((policy) => planned(policy, task))));
    const size = SIZES.find(([count]) => largest <= count)[1];
    const columns = largest <= 12 ? largest : Math.ceil(Math.sqrt(largest * 2.5));
    const head = h("div.row.head", {}, h("span.name"), policies.map((policy) => h("span.block", {}, overview.policies[policy])));
    const rows = tasks.map((task) => h("div.row", {}, h("span.name", {title: overview.tasks[task]}, overview.tasks[task]), policies.map((policy) =>
      block(overview, episodes, blocks.get(`${task}/${policy}`) ?? [], planned(policy, task), policy))));
    return h("div.matrix", {style: {"--cell": `${size}px`, "--columns": columns, "--blocks": policies.length}},
      overview.protocols.length > 1 ? h("h3", {}, protocol.protocol) : null, h("div.scroll", {}, h("div.rows", {}, head, rows)));
  });
  const key = h("p.key.small", {}, OUTCOMES.map((outcome) => badge(outcome)), badge("pending", "not finished"));
  return h("section", {id: "matrix", "aria-label": "Outcomes"}, h("h2", {}, "Outcome of every episode"), filters(overview, episodes), key, parts);
}

function block(overview, episodes, own, planned, policy) {
  const cells = own.map((i) => {
    const cell = h("a.cell." + OUTCOMES[episodes.outcome[i]], {href: address({episode: episodes.name(i)}), "data-i": i});
    if (episodes.count > 500) cell.tabIndex = -1;
    return cell;
  });
  for (let i = own.length; i < planned; i += 1) cells.push(h("i.cell.pending"));
  const successes = own.filter((i) => episodes.outcome[i] === 0).length;
  const completed = own.filter((i) => episodes.outcome[i] < 2).length;
  return h("span.block", {}, h("span.policy.small", {}, overview.policies[policy]), h("span.cells", {}, cells),
    h("small", {}, completed ? `${successes}/${completed}` : ""));
}

function filters(overview, episodes) {
  const select = (name, label, options) => h("label", {}, label, h("select", {id: `filter-${name}`, change: (event) => {
    episodes.filter[name] = event.target.value;
    applyFilter(episodes);
  }}, h("option", {value: ""}, "all"), options.map((text, value) => h("option", {value}, text))));
  const made = h("div.filters", {},
    select("policy", "Policy ", overview.policies), select("task", "Task ", overview.tasks), select("outcome", "Outcome ", OUTCOMES),
    h("label", {}, h("input", {type: "checkbox", id: "disagree", change: (event) => {
      episodes.filter.disagree = event.target.checked;
      applyFilter(episodes);
    }}), " policies disagree"), h("span.small", {id: "count", role: "status"}));
  for (const name of ["policy", "task", "outcome"]) made.querySelector(`#filter-${name}`).value = episodes.filter[name];
  made.querySelector("#disagree").checked = episodes.filter.disagree;
  return made;
}

function applyFilter(episodes) {
  let shown = 0;
  for (const cell of document.querySelectorAll("#matrix a.cell")) {
    const passes = episodes.shown(Number(cell.dataset.i));
    cell.classList.toggle("dim", !passes);
    shown += passes;
  }
  document.getElementById("count").textContent = `${shown.toLocaleString("en")} of ${plural(episodes.count, "episode")}`;
}

// Moments at which episodes were lost, as pictures.
function lossesSection(losses, episodes, overview) {
  if (!losses.failed) return h("section", {}, h("h2", {}, "Where episodes were lost"), h("p", {}, "No episode has failed."));
  const byId = new Map(range(episodes.count).map((i) => [episodes.id[i], i]));
  const list = h("div.moments");
  let chosen = "";
  const draw = () => list.replaceChildren(...losses.moments.filter((moment) => !chosen || moment.ending === chosen).map((moment) => momentCard(moment, byId.get(moment.id), episodes, overview)));
  const chips = h("div.chips", {role: "group"}, [["", losses.examined], ...losses.endings].map(([ending, count]) =>
    h("button.chip", {"aria-pressed": String(ending === ""), click: (event) => {
      chosen = ending;
      for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip === event.currentTarget));
      draw();
    }}, ending || "all", " ", h("small", {}, String(count)))));
  draw();
  const some = losses.examined < losses.failed ? `Of ${plural(losses.failed, "failed episode")}, ${losses.examined} are shown: some of every policy and task.` : "";
  return h("section", {id: "losses"}, h("h2", {}, "Where episodes were lost"), chips, list,
    some ? h("p.small", {}, some) : null, losses.notes.map((note) => h("p.small", {}, note)));
}

function momentCard(moment, i, episodes, overview) {
  const name = episodes.name(i);
  const at = moment.step === null ? episodes.steps[i] : moment.step;
  const picture = h("video", {muted: true, playsinline: true, preload: "none", "aria-hidden": "true"});
  picture.muted = true;
  picture.addEventListener("loadedmetadata", () => { picture.currentTime = Math.min(0.999, at / Math.max(1, episodes.steps[i])) * picture.duration; });
  picture.addEventListener("error", () => picture.replaceWith(h("span.blank", {}, "no video")));
  whenSeen(picture, () => { picture.preload = "auto"; picture.src = `episodes/${moment.id}/video.mp4`; });
  return h("a.moment", {href: address({episode: name, step: moment.step ?? undefined})}, picture,
    h("span.what", {}, h("strong", {}, moment.ending), moment.step === null ? "" : ` at step ${moment.step}`),
    h("span.small", {}, `${episodes.policyName(i)} · ${overview.tasks[episodes.task[i]]} · episode ${episodes.number[i]}`));
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    entry.target.whenSeen();
  }
}, {rootMargin: "300px"});

function whenSeen(element, action) {
  element.whenSeen = action;
  seen.observe(element);
}

// Progress of a run that goes on.
function progress(live) {
  if (!live?.status) return null;
  const {state, doing, done, planned, engine, episodes_per_h: rate, left_s: left, stale} = live.status;
  const facts = [
    rate === null ? null : `${Math.round(rate)} episodes per hour`,
    left === null ? null : `${duration(left)} left`,
    engine.simulators ? `${engine.simulators} env actors × ${engine.places}` : null,
    engine.simulator_share === null ? null : `env actors busy ${Math.round(100 * engine.simulator_share)} %`,
    engine.device_share === null ? null : `policy busy ${Math.round(100 * engine.device_share)} %`,
    engine.queue ? `${engine.queue} queries wait for a policy` : null,
    engine.starting || null, engine.slow || null,
  ].filter(Boolean);
  return h("div.progress", {}, h("progress", {max: planned, value: done}),
    h("p", {}, h("strong", {}, stale ? "no report any more" : state), ` · ${done} of ${planned} episodes · ${doing}`),
    h("p.small", {}, facts.join(" · ")));
}

const duration = (seconds) => (seconds > 5400 ? `${(seconds / 3600).toFixed(1)} h` : seconds > 90 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds)} s`);

function runPage(overview, episodes) {
  const counts = OUTCOMES.map((_, outcome) => episodes.outcome.filter((value) => value === outcome).length);
  const seeds = [...new Set(overview.runs.map((run) => run.seed).filter((seed) => seed !== null))];
  return [
    h("header", {}, simloop.served ? h("a.up", {href: "../"}, "all runs") : null, h("h1", {}, overview.title),
      h("p.headline", {id: "headline"}),
      h("p.small", {}, `${plural(episodes.count, "episode")}: ${counts[0]} success, ${counts[1]} failure, ${counts[2]} error · ${overview.tasks.length === 1 ? "1 task" : `${overview.tasks.length} tasks`} · `
        + overview.protocols.map((p) => p.protocol).slice(0, 3).join(", ") + (seeds.length ? ` · seed ${seeds.join(", ")}` : ""), " · ",
        h("kbd", {}, "n"), " opens the next failure"),
      h("div", {id: "progress"})),
    meansPlot(overview), matrix(overview, episodes), h("div", {id: "losses-place"}), h("div", {id: "details-place"}),
  ];
}
