"use strict";
// What `simloop explain` computed of the queries of an episode: attention over images, spread of chunks.
function hasExplanations(data) { return Boolean(data.explained && Object.keys(data.explained).length); }

// A switch that draws attention onto the images, with the shares of the inputs at the latest query.
function attentionSwitch(player, data, overlays, views) {
  if (!views.length || !hasExplanations(data)) return null;
  const {records, explained} = data;
  let on = true;
  overlays.push((context, camera, query, width, height) => { if (on) drawAttention(context, explained[query]?.cameras[camera], width, height); });
  const box = h("input", {type: "checkbox", checked: true, change: (event) => { on = event.target.checked; views.forEach((view) => view.redraw()); }});
  const shares = h("span"), distances = h("span");
  player.onStep((step) => {
    const query = queryAt(records, step);
    shares.textContent = attentionText(explained, query);
    distances.textContent = distanceText(explained[query]);
  });
  views.forEach((view) => view.redraw());
  return h("div", {}, h("p.small.attention", {}, h("label", {title: "Attention rollout from the action tokens to image patches"}, box, " attention "), shares),
    h("p.small.distances", {title: "Share of training images that are nearer to their mean, by colours in an 8 x 8 grid"}, distances));
}

function attentionText(explained, query) {
  const one = explained[query];
  if (!one) return `query ${query} is not explained; explained: ${Object.keys(explained).join(", ")}`;
  return Object.entries(one.shares).map(([name, share]) => `${words(name)} ${percent(share)} %`).join(" · ");
}

// How unusual the images of an explained query are among those of training.
function distanceText(one) {
  if (!one) return "";
  const cameras = Object.entries(one.images);
  if (!cameras.length) return "distance of the images from the training data: not recorded in the checkpoint";
  return "images nearer to the training data: " + cameras.map(([camera, {distance, percentile, largest}]) => `${camera} ${(percentile ?? NaN).toFixed(1)} % of training`
    + (distance > largest ? `, ${(distance / largest).toFixed(1)} times its largest distance` : "")).join(" · ");
}

// Patches the brighter, the more weight they have.
function drawAttention(context, map, width, height) {
  if (!map) return;
  const {side, weights} = map;
  const most = Math.max(...weights) || 1;
  context.fillStyle = "rgba(0, 0, 0, 0.35)";
  context.fillRect(0, 0, width, height);
  weights.forEach((weight, i) => {
    context.fillStyle = `rgba(240, 180, 40, ${(0.75 * weight / most).toFixed(3)})`;
    const [x, y] = [Math.round((i % side) * width / side), Math.round(Math.floor(i / side) * height / side)];
    context.fillRect(x, y, Math.round(((i % side) + 1) * width / side) - x, Math.round((Math.floor(i / side) + 1) * height / side) - y);
  });
}

// A band of one standard deviation around the chunk of a query; empty if it is not explained.
function spreadBand(one, chunk, dimension, scale) {
  if (!one?.spread.length || !chunk.values.length) return "";
  const above = chunk.values.map((value, i) => value + one.spread[i][dimension]);
  const below = chunk.values.map((value, i) => value - one.spread[i][dimension]);
  const forth = linePath(above, ...scale, chunk.at);
  const back = linePath(below, ...scale, chunk.at).slice(1).split("L").reverse();
  return `${forth}L${back.join("L")}Z`;
}
