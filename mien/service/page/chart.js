// Bars of an expression's probabilities, and the timeline of each person under a video.

import { makeElement } from "./dom.js";
import { getLabelColor, server } from "./store.js";
import { createTimelineChart, formatClock } from "./timeline_chart.js";
import { getLabelName, formatPercent, t } from "./words.js";

/** A list of bars in `list`; answers a function that shows other probabilities {label: p}, or null for none. */
export function makeBars(list) {
  let rows = {};
  return (probabilities, labels = server.labels) => {
    if (list.dataset.labels !== labels.map(getLabelName).join()) {
      list.dataset.labels = labels.map(getLabelName).join();
      rows = Object.fromEntries(labels.map((label) => [label, makeBarRow(label)]));
      list.replaceChildren(...Object.values(rows).map(({ item }) => item));
    }
    const most = probabilities && Math.max(...Object.values(probabilities));
    for (const [label, { item, fill, value }] of Object.entries(rows)) {
      const p = probabilities?.[label];
      item.classList.toggle("most", p !== undefined && p === most);
      fill.style.setProperty("--share", p ?? 0);
      fill.style.setProperty("--color", getLabelColor(label));
      value.textContent = p === undefined ? "–" : formatPercent(p);
    }
  };
}

function makeBarRow(label) {
  const fill = makeElement("i");
  const value = makeElement("span", { class: "value" });
  const item = makeElement(
    "li",
    {},
    makeElement("span", { class: "name", text: getLabelName(label) }),
    makeElement("span", { class: "rail" }, fill),
    value,
  );
  return { item, fill, value };
}

let loading = null;

/** plotly.min.js, fetched once and only when a timeline is drawn; null where the server has none. */
function loadPlotly() {
  loading ??= new Promise((resolve) => {
    const script = makeElement("script", {
      src: "page/plotly.min.js",
      onload: () => resolve(window.Plotly),
      onerror: () => resolve(null),
    });
    document.head.append(script);
  });
  return loading;
}

/**
 * The timeline of persons in `slider`, an element with role="slider"; `seek` hears the second that was clicked.
 * Returns null where plotly is missing.
 *
 * @param {HTMLElement} slider
 * @param {FramesData} data
 * @param {Person[]} people
 * @param {(second: number) => void} seek
 */
export async function makeTimeline(slider, data, people, seek) {
  const plotly = await loadPlotly();
  if (!plotly) return null;
  const range = /** @type {[number, number]} */ ([0, data.seconds || data.times.at(-1) || 1]);
  const chart = createTimelineChart(slider, data.timeline, {
    plotly,
    range,
    paper: "--panel",
    getColor: getLabelColor,
    getName: ({ track, person }) =>
      t(people.find((each) => each.track === track)?.mostly_unsure ? "video.person.unsure" : "video.person", { number: person }),
    onSeek: seek,
  });
  const show = (second) => {
    chart.show(second);
    slider.setAttribute("aria-valuenow", second.toFixed(1));
    slider.setAttribute("aria-valuetext", formatClock(second, true));
  };
  slider.setAttribute("aria-valuemin", "0");
  slider.setAttribute("aria-valuemax", range[1].toFixed(1));
  const rows = people.flatMap(({ track }) => data.timeline.persons.filter((each) => each.track === track));
  await chart.draw(rows);
  show(0);
  return { ...chart, show };
}
