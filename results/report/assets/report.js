"use strict";
// Shows the episodes that the filters let through, all policies of one episode side by side.
(() => {
  const PAGE = 20; // Episodes shown at once: videos of more would slow a phone down.
  const plays = JSON.parse(document.getElementById("plays").textContent);
  const list = document.getElementById("list");
  const count = document.getElementById("count");
  const more = document.getElementById("more");
  const filters = ["policy", "task", "outcome"].map((name) => document.getElementById(`filter-${name}`));
  let shown = PAGE;

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
    const chosen = plays.filter((play) =>
      filters.every((filter) => !filter.value || play[filter.id.slice("filter-".length)] === filter.value));
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
      section.append(element("h3", episode), cards);
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
  }
  draw();
})();
