"use strict";
// The list of runs: filtered, sorted, and filled while runs go on.
const list = {sort: "written", down: true, filter: "", runs: []};

function listPage(data) {
  list.runs = data.runs;
  if (!document.getElementById("runs")) {
    document.getElementById("page").replaceChildren(
      h("header", {}, h("h1", {}, "Runs"), h("p.small", {}, data.folders.join(", "))),
      h("div.filters", {}, h("label", {}, "Filter ", h("input", {type: "search", id: "filter", input: (event) => { list.filter = event.target.value.toLowerCase(); drawList(); }}))),
      h("div.scroll", {}, h("table", {id: "runs"})));
  }
  drawList();
}

const COLUMNS = [["name", "run"], ["state", "state"], ["done", "episodes"], ["success", "success in % with 95 % interval"], ["written", "last report"]];

function drawList() {
  const shown = list.runs.filter((run) => JSON.stringify([run.name, run.folder, run.state, run.policies.map((p) => p.name)]).toLowerCase().includes(list.filter));
  shown.sort((a, b) => (a[list.sort] < b[list.sort] ? -1 : a[list.sort] > b[list.sort] ? 1 : 0) * (list.down ? -1 : 1));
  const heads = COLUMNS.map(([key, title]) => h("th", {scope: "col", "aria-sort": list.sort === key ? (list.down ? "descending" : "ascending") : null},
    key === "success" ? title : h("button.sort", {click: () => { list.down = list.sort === key ? !list.down : true; list.sort = key; drawList(); }}, title, list.sort === key ? (list.down ? " ↓" : " ↑") : "")));
  const rate = (policy) => h("div.mean.tiny", {}, h("span.name", {}, policy.name), h("div.track", {}, policy.rate === null ? null : [
    h("i.arm", {style: {left: `${100 * policy.low}%`, width: `${100 * (policy.high - policy.low)}%`}}), h("i.dot.circle", {style: {left: `${100 * policy.rate}%`}})]),
    h("span.value", {}, percent(policy.rate), " ", h("small", {}, `${policy.successes}/${policy.completed}`)));
  const rows = shown.map((run) => h("tr", {}, h("th", {scope: "row"}, h("a", {href: `${run.path}/`}, run.name), h("br"), h("small", {}, run.folder)),
    h("td", {}, run.problem ? h("small", {}, run.problem) : run.state),
    h("td", {}, run.done === null ? "–" : `${run.done}${run.planned ? ` of ${run.planned}` : ""}`, run.planned ? h("div", {}, h("progress", {max: run.planned, value: run.done})) : null),
    h("td.rates", {}, run.policies.map(rate)), h("td", {}, run.written)));
  document.getElementById("runs").replaceChildren(h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.length ? rows : h("tr", {}, h("td", {colspan: 5}, "No run."))));
}
