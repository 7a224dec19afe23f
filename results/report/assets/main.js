"use strict";
// Which view the address names, the keyboard, and the progress of a run that goes on.
const POLL_MS = 2000;
const run = {overview: null, episodes: null, player: null, shown: [], stamp: null};

async function openRun() {
  run.overview = await simloop.load("overview");
  run.episodes = new Episodes(run.overview);
  show();
  window.addEventListener("hashchange", show);
  if (simloop.served) poll();
}

function show() {
  run.player?.close();
  Object.assign(run, {player: null, shown: []});
  const {episode, with: other, step} = here();
  if (episode) showEpisode(episode, other, step === undefined ? null : Number(step));
  else showRun();
}

function showRun() {
  document.title = `${run.overview.title} – simloop`;
  document.getElementById("page").replaceChildren(...runPage(run.overview, run.episodes));
  applyFilter(run.episodes);
  fill("losses", "losses-place", (losses) => [lossesSection(losses, run.episodes, run.overview)]);
  fill("details", "details-place", (details) => {
    document.getElementById("headline").textContent = details.headlines.join(" ");
    return detailsSections(details);
  });
  if (run.live) showProgress();
}

// Load a part of the page after the first screen.
async function fill(name, place, draw) {
  try {
    run[name] ??= await simloop.load(name);
    document.getElementById(place)?.replaceChildren(...draw(run[name]));
  } catch (error) {
    document.getElementById(place)?.replaceChildren(h("p.notice", {}, `This part of the page cannot be drawn: ${error.message}.`));
  }
}

async function showEpisode(name, other, step) {
  const shown = [name, other].filter(Boolean).map((one) => run.episodes.byName.get(one));
  const page = document.getElementById("page");
  if (shown.includes(undefined)) {
    page.replaceChildren(h("p", {}, h("a", {href: "#"}, run.overview.title)), h("p.notice", {}, `This run has no finished episode ${name}.`));
    return;
  }
  run.shown = shown;
  const ids = shown.map((i) => run.episodes.id[i]);
  try {
    const data = await Promise.all(ids.map(loadEpisode));
    if (run.shown !== shown) return; // Another view was opened meanwhile.
    simloop.records = data[0].records;
    const {elements, player} = episodePage(run, shown, data, ids, step);
    run.player = player;
    document.title = `${name} – simloop`;
    page.replaceChildren(...elements.filter(Boolean));
    window.scrollTo(0, 0);
  } catch (error) {
    page.replaceChildren(h("p", {}, h("a", {href: "#"}, run.overview.title)), h("p.notice", {}, `${name}: ${error.message}.`));
  }
}

// Cells name their episode when they are pointed at: thousands of titles would slow the page down.
document.addEventListener("mouseover", (event) => {
  const i = event.target.dataset?.i;
  if (i !== undefined && !event.target.title) event.target.title = `${run.episodes.name(i)}: ${OUTCOMES[run.episodes.outcome[i]]} after ${run.episodes.steps[i]} steps`;
});

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input:not([type=range]), select, textarea") || event.ctrlKey || event.metaKey || event.altKey || !run.episodes) return;
  const {player, shown, episodes} = run;
  const go = (i) => { if (i !== null) location.hash = address({episode: episodes.name(i)}); };
  const toQuery = (step) => {
    const records = simloop.records;
    if (!records) return player.seek(Math.round(player.step) + 10 * step);
    const query = queryAt(records, player.step) + step;
    return player.seek(records.queries[Math.min(records.queries.length - 1, Math.max(0, query))].step);
  };
  const move = (step) => (event.shiftKey ? toQuery(step) : player.seek(Math.round(player.step) + step));
  const actions = {
    n: () => go(episodes.nextFailure(shown[0] ?? null)),
    p: () => go(episodes.nextFailure(shown[0] ?? null, -1)),
    N: () => go(episodes.nextFailure(shown[0] ?? null, -1)),
    Escape: () => { location.hash = ""; },
    ...(player ? {" ": () => player.toggle(), ArrowRight: () => move(1), ArrowLeft: () => move(-1), Home: () => player.seek(0), End: () => player.seek(player.steps)} : {}),
  };
  const action = actions[event.key];
  if (!action) return;
  event.preventDefault();
  action();
});

// Progress of the run, and new episodes as they finish.
async function poll() {
  try {
    run.live = await simloop.load("live");
  } catch {
    return; // Pages that a plain web server hands out have no progress.
  }
  if (run.stamp !== null && run.stamp !== run.live.stamp) {
    run.overview = await simloop.load("overview");
    const {filter} = run.episodes;
    run.episodes = new Episodes(run.overview);
    run.episodes.filter = filter;
    Object.assign(run, {losses: null, details: null});
    if (!here().episode) {
      const top = window.scrollY;
      showRun();
      window.scrollTo(0, top);
    }
  }
  run.stamp = run.live.stamp;
  showProgress();
  if (run.live.going) setTimeout(poll, POLL_MS);
}

function showProgress() {
  document.getElementById("progress")?.replaceChildren(...[run.live.going ? progress(run.live) : null].filter(Boolean));
}

async function openList() {
  document.title = "Runs – simloop";
  for (;;) {
    listPage(await simloop.load("runs"));
    await new Promise((done) => setTimeout(done, POLL_MS));
  }
}

(document.documentElement.dataset.page === "list" ? openList() : openRun()).catch((error) => {
  document.getElementById("page").replaceChildren(h("p.notice", {}, `The data of this page cannot be read: ${error.message}.`));
});
