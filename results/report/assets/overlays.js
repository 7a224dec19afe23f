"use strict";
// Overlays of an episode that can be switched on, drawn onto the images of the policy and onto the video.

// Executed steps that are shown at least: chunks may be a single action.
const FEWEST = 11;

// (u, v) of a point of the world in units of an image; null if it is not in front of the camera.
function projected([x, y, z], matrix) {
  const [u, v, depth] = matrix.map(([a, b, c, d]) => a * x + b * y + c * z + d);
  return depth > 0.01 ? [u / depth, v / depth] : null;
}

// Trajectories of one episode as a camera sees them.
class TrajectoryOverlay {
  constructor(records, found) {
    Object.assign(this, {records, found});
    this.widest = Math.max(1e-6, ...found.executed.flat().map((point) => point[3]));
    this.colours = Object.fromEntries(["ink", "paper", "current"].map((name) => [name, getComputedStyle(document.documentElement).getPropertyValue(`--${name}`)]));
  }

  // Draw what the chunk of a query predicts, and what was executed meanwhile, onto a canvas that shows a moment.
  draw(context, camera, query, moment, size, toPixels) {
    const projections = this.found.cameras[camera];
    const predicted = this.found.predicted[query];
    if (!projections || !predicted) return;
    const matrix = projections[Math.min(moment, projections.length - 1)];
    const at = this.records.queries[query].step;
    const executed = this.found.executed.slice(at, at + Math.max(FEWEST, predicted.length));
    for (const gripper of range(executed[0]?.length ?? 0)) {
      const pixel = (point) => toPixels(projected(point, matrix));
      for (const [points, colour] of [[executed, this.colours.ink], [predicted, this.colours.current]]) {
        this.path(context, points.map((of) => pixel(of[gripper])), size, colour);
        const last = points[points.length - 1][gripper];
        this.mark(context, pixel(last), last, size, colour);
      }
      const now = this.found.executed[moment]?.[gripper];
      if (now) this.mark(context, pixel(now), now, size, this.colours.ink);
    }
  }

  path(context, pixels, size, colour) {
    for (const [style, width] of [[this.colours.paper, 3.2 * size], [colour, 1.6 * size]]) {
      Object.assign(context, {strokeStyle: style, lineWidth: width, lineJoin: "round"});
      context.beginPath();
      let pen = "moveTo";
      for (const pixel of pixels) {
        if (pixel) context[pen](...pixel);
        pen = pixel ? "lineTo" : "moveTo";
      }
      context.stroke();
    }
  }

  // A ring as wide as the gripper is open: a dot if it is closed.
  mark(context, pixel, point, size, colour) {
    if (!pixel) return;
    context.beginPath();
    context.arc(...pixel, (1.6 + (5 * point[3]) / this.widest) * size, 0, 2 * Math.PI);
    Object.assign(context, {strokeStyle: this.colours.paper, lineWidth: 3 * size});
    context.stroke();
    Object.assign(context, {strokeStyle: colour, lineWidth: 1.5 * size});
    context.stroke();
  }

  // As an overlay of `inputViews`.
  onInput(context, camera, query, width, height) {
    const [source, affine] = this.found.inputs[camera] ?? [];
    if (!source) return;
    const toPixels = (uv) => uv && affine.map(([a, b, c], i) => (a * uv[0] + b * uv[1] + c) * [width, height][i]);
    this.draw(context, source, query, this.records.queries[query].step, Math.max(1, width / 220), toPixels);
  }

  // Onto a canvas that covers the cameras of the video at a step.
  onVideo(context, step) {
    const {canvas} = context;
    const cameras = this.found.video; // Empty if unknown.
    const tile = canvas.width / cameras.length;
    const height = tile * this.found.aspect; // Below is the margin.
    cameras.forEach((camera, i) => {
      context.save();
      context.beginPath();
      context.rect(i * tile, 0, tile, height);
      context.clip();
      const moment = Math.round(step);
      this.draw(context, camera, queryAt(this.records, moment), moment, tile / 300, (uv) => uv && [(i + uv[0]) * tile, uv[1] * height]);
      context.restore();
    });
  }
}

// Success of forks over the time of the video, in its lower part, with the present step.
class ForkOverlay {
  constructor(data) {
    Object.assign(this, {data, starts: data.records.queries.map((query) => query.step)});
    this.colours = ["current", "hold", "accent", "failure"].map((name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`));
  }

  onVideo(context, step) {
    const {width, height} = context.canvas;
    const [left, high, low] = [width * 0.02, height * 0.72, height * 0.95];
    const x = (at) => left + (at / Math.max(1, this.data.steps)) * (width - 2 * left);
    const y = (rate) => low - rate * (low - high);
    Object.assign(context, {fillStyle: "rgb(255 255 255 / 0.75)", lineWidth: height / 120, lineJoin: "round", font: `${height / 26}px sans-serif`});
    context.fillRect(0, high - height * 0.05, width, height - high + height * 0.05);
    this.data.forks.forEach(({variant, points}, i) => {
      context.strokeStyle = context.fillStyle = this.colours[i % this.colours.length];
      context.beginPath();
      for (const {query, rate} of points) context.lineTo(x(this.starts[query]), y(rate));
      context.stroke();
      for (const {query, rate, low: least, high: most} of points) {
        context.fillRect(x(this.starts[query]) - 1, y(most), 2, y(least) - y(most));
        context.beginPath();
        context.arc(x(this.starts[query]), y(rate), height / 90, 0, 2 * Math.PI);
        context.fill();
      }
      context.fillText(variant, width * 0.75, high + (i * height) / 24);
    });
    context.fillStyle = "#1d2126";
    context.fillText("success of forks, 0 … 1", left, high - height * 0.01);
    context.fillRect(x(step) - 1.5, high, 3, low - high);
  }
}

const TRAJECTORIES_LEGEND = [["i.sample.current"], " predicted: the simulator after the whole chunk ", ["i.sample.executed"], " executed; rings are as wide as the gripper is open"];

// Switches of the overlays of an episode; `film` is the canvas over its video, and `inputs` the views of the policy's images.
function overlaySwitches(player, data, id, overlays, film, inputs) {
  const shown = new Set(); // Overlays that are switched on.
  overlays.push((...drawn) => { for (const overlay of shown) overlay.onInput?.(...drawn); });
  const draw = (step) => {
    if (!film) return;
    film.getContext("2d").clearRect(0, 0, film.width, film.height);
    for (const overlay of shown) overlay.onVideo(film.getContext("2d"), step);
  };
  const change = (label, note, make, legend) => async (event) => {
    event.target.blur(); // So that keys move the player again.
    try {
      note.textContent = " computing …";
      make.made ??= await make();
      if (event.target.checked) shown.add(make.made);
      else shown.delete(make.made);
      note.replaceChildren(...(event.target.checked ? legend.map((part) => (Array.isArray(part) ? h(...part) : part)) : []));
      for (const view of inputs) view.redraw();
      draw(player.step);
    } catch (error) {
      event.target.checked = false;
      note.textContent = ` The ${label} cannot be shown: ${error.message}.`;
    }
  };
  const choice = (label, make, legend = []) => {
    const note = h("span.small");
    return h("p.overlays", {}, h("label", {}, h("input", {type: "checkbox", change: change(label, note, make, legend)}), ` ${label} `), note);
  };
  player.onStep(draw);
  return [
    data.trajectories ? choice("trajectories of the gripper", async () => new TrajectoryOverlay(data.records, await simloop.load(`episodes/${id}/trajectories`)), TRAJECTORIES_LEGEND) : null,
    film && data.records && data.forks.length ? choice("success of forks", () => new ForkOverlay(data)) : null,
  ];
}
