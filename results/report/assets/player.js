"use strict";
// The clock of an episode page: one step for videos, images, timelines and curves.
class Player {
  constructor(steps, hz) {
    Object.assign(this, {steps: Math.max(1, steps), hz: hz || 20, speed: 1, step: 0, playing: false, listeners: []});
  }

  onStep(listener) { this.listeners.push(listener); listener(this.step); }

  seek(step) {
    this.step = Math.min(this.steps, Math.max(0, step));
    for (const listener of this.listeners) listener(this.step);
  }

  toggle() {
    this.playing = !this.playing;
    if (this.playing && this.step >= this.steps) this.seek(0);
    this.last = null;
    if (this.playing) requestAnimationFrame((now) => this.tick(now));
    this.onPlay?.(this.playing);
  }

  tick(now) {
    if (!this.playing || this.closed) return;
    if (this.last !== null) this.seek(this.step + ((now - this.last) / 1000) * this.hz * this.speed);
    this.last = now;
    if (this.step >= this.steps) this.toggle();
    else requestAnimationFrame((then) => this.tick(then));
  }

  close() { this.closed = true; this.playing = false; }
}

// The video of an episode, which follows the player, below a canvas of the same shape for overlays.
function videoView(player, data, id, canvas) {
  const video = h("video", {playsinline: true, preload: "auto", "aria-label": "All cameras of the suite"});
  video.muted = true;
  let wanted = 0;
  const follow = () => {
    if (!video.duration || video.seeking) return;
    const time = Math.min(0.9999, wanted / Math.max(1, data.steps)) * video.duration;
    if (Math.abs(video.currentTime - time) > 0.02) video.currentTime = time;
  };
  video.addEventListener("seeked", follow);
  video.addEventListener("loadedmetadata", () => {
    const scale = Math.ceil(1000 / video.videoWidth);
    Object.assign(canvas, {width: video.videoWidth * scale, height: video.videoHeight * scale});
    follow();
    player.seek(player.step);
  });
  video.addEventListener("error", () => video.replaceWith(h("p.blank", {}, "The video cannot be read.")));
  video.src = `episodes/${id}/video.mp4`;
  player.onStep((step) => { wanted = step; follow(); });
  return h("div.film", {}, video, canvas);
}

// Images of the latest query, cut out of the sheet of each camera; overlays draw onto them.
function inputViews(player, data, id, overlays) {
  const {records} = data;
  return records.cameras.map((camera, c) => {
    const canvas = h("canvas", {role: "img", "aria-label": `Camera ${camera} as the policy saw it`});
    const caption = h("figcaption.small", {}, `${words(camera)}: loading, or being drawn again …`);
    const sheet = new Image();
    let shown = null;
    const draw = (query, force) => {
      if (!sheet.naturalWidth || (query === shown && !force)) return;
      shown = query;
      const columns = records.sheet_columns;
      const rows = Math.ceil(records.queries.length / columns);
      const [width, height] = [sheet.naturalWidth / columns, sheet.naturalHeight / rows];
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
      const context = canvas.getContext("2d");
      context.drawImage(sheet, (query % columns) * width, Math.floor(query / columns) * height, width, height, 0, 0, width, height);
      caption.textContent = `${words(camera)}, ${width} × ${height}, query ${query}`;
      for (const overlay of overlays) overlay(context, camera, query, width, height);
    };
    sheet.onload = () => draw(queryAt(records, player.step), true);
    sheet.onerror = () => {
      canvas.replaceWith(h("p.blank", {}, "The images of the policy are neither stored nor drawn alike on this machine."));
      caption.textContent = words(camera);
    };
    sheet.src = `episodes/${id}/${c}.webp`;
    player.onStep((step) => draw(queryAt(records, step)));
    const redraw = () => draw(queryAt(records, player.step), true); // After an overlay has changed.
    return Object.assign(h("figure.input", {}, canvas, caption), {redraw});
  });
}

// Index of the query whose chunk is executed at a step.
function queryAt(records, step) {
  const {queries} = records;
  let [low, high] = [0, queries.length - 1];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (queries[middle].step <= step) low = middle;
    else high = middle - 1;
  }
  return Math.max(0, low);
}

// Play, step slider and speed.
function transport(player, hasQuery) {
  const button = h("button.play", {"aria-label": "Play or pause", click: () => player.toggle()}, "▶");
  const slider = h("input", {type: "range", min: 0, max: player.steps, step: 1, value: 0, "aria-label": "Step", input: (event) => player.seek(Number(event.target.value))});
  const text = h("output");
  const speed = h("select", {"aria-label": "Speed", change: (event) => { player.speed = Number(event.target.value); }},
    [0.1, 0.25, 0.5, 1, 2, 4].map((x) => h("option", {value: x, selected: x === 1}, `${x} ×`)));
  player.onPlay = (playing) => { button.textContent = playing ? "❚❚" : "▶"; };
  player.onStep((step) => {
    slider.value = String(Math.floor(step));
    text.textContent = `step ${Math.floor(step)} of ${player.steps}${hasQuery ? ` · query ${queryAt(hasQuery, step)}` : ""}`;
  });
  return h("div.transport", {}, button, slider, text, speed);
}
