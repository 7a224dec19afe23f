"use strict";
// Shows the episodes that pass the filters, or the one that the address names, all policies side by side.
(() => {
  const PAGE = 20; // Episodes shown at once: more videos would slow a phone down.
  const plays = JSON.parse(document.getElementById("plays").textContent);
  const list = document.getElementById("list");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const all = document.getElementById("all");
  const disagree = document.getElementById("disagree");
  const filters = ["policy", "task", "outcome"].map((name) => document.getElementById(`filter-${name}`));
  let shown = PAGE;

  const anchor = (episode) => `episode=${encodeURIComponent(episode)}`;
  const outcomes = new Map(); // Of every episode, errors aside.
  for (const play of plays) {
    if (!outcomes.has(play.episode)) outcomes.set(play.episode, new Set());
    if (play.outcome !== "error") outcomes.get(play.episode).add(play.outcome);
  }

  const element = (tag, text, name) => {
    const made = document.createElement(tag);
    if (text) made.textContent = text;
    if (name) made.className = name;
    return made;
  };

  for (const filter of filters) {
    const name = filter.id.slice("filter-".length);
    for (const value of new Set(plays.map((play) => play[name]))) {
      const option = element("option", value);
      option.value = value;
      filter.append(option);
    }
    filter.addEventListener("change", () => { shown = PAGE; draw(); });
  }
  disagree.addEventListener("change", () => { shown = PAGE; draw(); });
  window.addEventListener("hashchange", draw);
  more.addEventListener("click", () => { shown += PAGE; draw(); });

  function card(play) {
    const made = element("div", "", "play");
    if (play.video) {
      const video = element("video");
      video.controls = true;
      video.muted = true;
      video.playsInline = true;
      video.preload = "metadata";
      video.src = play.video;
      made.append(video);
    }
    const line = element("p");
    line.append(element("strong", play.policy), " ", element("span", play.outcome, play.outcome));
    made.append(line, element("p", play.detail, "small"));
    return made;
  }

  function draw() {
    const linked = location.hash.startsWith("#episode=") ? location.hash.slice(1) : "";
    const chosen = plays.filter((play) => linked
      ? anchor(play.episode) === linked
      : filters.every((filter) => !filter.value || play[filter.id.slice("filter-".length)] === filter.value)
        && (!disagree.checked || outcomes.get(play.episode).size > 1));
    const episodes = new Map();
    for (const play of chosen) {
      if (!episodes.has(play.episode)) episodes.set(play.episode, []);
      episodes.get(play.episode).push(play);
    }
    list.replaceChildren();
    for (const [episode, ofEpisode] of [...episodes].slice(0, shown)) {
      const section = element("section", "", "episode");
      const cards = element("div", "", "plays");
      cards.append(...ofEpisode.map(card));
      const heading = element("h3", episode);
      const link = element("a", "link");
      link.href = `#${anchor(episode)}`;
      heading.append(" ", link);
      section.append(heading, cards);
      if (ofEpisode.filter((play) => play.video).length > 1) {
        const together = element("button", "Play side by side");
        together.addEventListener("click", () => {
          for (const video of cards.querySelectorAll("video")) {
            video.currentTime = 0;
            video.play().catch(() => {}); // A browser may refuse; the video has its own controls.
          }
        });
        section.append(together);
      }
      list.append(section);
    }
    count.textContent = `${chosen.length} of ${plays.length} played episodes`;
    more.hidden = episodes.size <= shown;
    all.hidden = !linked;
    if (linked) document.getElementById("episodes").scrollIntoView();
  }
  draw();
})();
