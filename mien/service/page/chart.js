// Bars of an expression's probabilities, and the timeline of each person under a video.

import { $, resolveColor, makeElement } from "./dom.js";
import { getLabelColor, server } from "./store.js";
import { formatClock, getLabelName, formatPercent, t } from "./words.js";

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

const MARGIN = { l: 8, r: 8, t: 6, b: 26 };
const ROW = 74;
/** Points a person's areas are drawn with; more cannot be told apart. */
const MOST_POINTS = 700;

/**
 * The smoothed probabilities of persons over time as stacked areas, one below the other.
 *
 * `place` is an element with role="slider"; `data` is what the service's frames tell; `seek` hears the second that was
 * clicked. Answers {show(second), draw(), close()}, or null where plotly is missing.
 */
export async function makeTimeline(place, data, persons, seek) {
  const Plotly = await loadPlotly();
  if (!Plotly) return null;
  const chart = $(".chart", place);
  const pointer = $(".pointer", place);
  const end = data.seconds || data.times.at(-1) || 1;
  let [range, now] = [[0, end], 0];

  const span = () => chart.clientWidth - MARGIN.l - MARGIN.r;
  const show = (second) => {
    now = second;
    const share = (second - range[0]) / (range[1] - range[0]);
    pointer.hidden = share < 0 || share > 1;
    pointer.style.transform = `translateX(${MARGIN.l + share * span()}px)`;
    place.setAttribute("aria-valuenow", second.toFixed(1));
    place.setAttribute("aria-valuetext", formatClock(second, true));
  };
  const secondAt = (event) => {
    const x = event.clientX - chart.getBoundingClientRect().left - MARGIN.l;
    return Math.min(Math.max(range[0] + (x / span()) * (range[1] - range[0]), 0), end);
  };

  const draw = async () => {
    await Plotly.react(chart, makeTraces(data, persons), makeLayout(persons, range), {
      displayModeBar: false,
      responsive: false,
    });
    show(now);
  };
  await draw();
  chart.on("plotly_relayout", () => {
    range = [...chart.layout.xaxis.range].map(Number);
    show(now);
  });

  const stop = new AbortController();
  let pressed = null;
  chart.addEventListener("pointerdown", (event) => (pressed = event), { capture: true, signal: stop.signal });
  addEventListener(
    // plotly lays a cover over the page while a button is held, so the release is heard there
    "pointerup",
    (event) => {
      if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < 5)
        seek(secondAt(event));
      pressed = null;
    },
    { capture: true, signal: stop.signal },
  );
  place.setAttribute("aria-valuemin", 0);
  place.setAttribute("aria-valuemax", end.toFixed(1));
  let width = chart.clientWidth;
  const resized = new ResizeObserver(() => {
    if (chart.clientWidth && chart.clientWidth !== width) draw();
    width = chart.clientWidth;
  });
  resized.observe(chart);
  return {
    show,
    draw,
    close: () => {
      stop.abort();
      resized.disconnect();
      Plotly.purge(chart);
    },
  };
}

function makeLayout(persons, range) {
  const [soft, line, text] = ["--soft", "--line", "--text"].map(resolveColor);
  const rows = Math.max(persons.length, 1);
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: soft };
  const [ticks, words] = makeClockTicks(range);
  const axes = Object.fromEntries(
    persons.map((_, index) => [
      `yaxis${index ? index + 1 : ""}`,
      {
        domain: [1 - (index + 0.82) / rows, 1 - index / rows - 0.16 / rows].map((v) => Math.max(v, 0)),
        range: [0, 1],
        fixedrange: true,
        showticklabels: false,
        showgrid: false,
        zeroline: false,
        anchor: "x",
      },
    ]),
  );
  return {
    ...axes,
    xaxis: {
      range,
      tickvals: ticks,
      ticktext: words,
      tickcolor: line,
      ticks: "outside",
      ticklen: 4,
      showgrid: false,
      zeroline: false,
      anchor: `y${rows > 1 ? rows : ""}`,
    },
    height: ROW * rows + MARGIN.t + MARGIN.b,
    margin: MARGIN,
    showlegend: false,
    hovermode: false,
    dragmode: "zoom",
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font,
    annotations: persons.map((person, index) => ({
      text: t(person.mostly_unsure ? "video.person.unsure" : "video.person", { number: person.person }),
      xref: "paper",
      yref: "paper",
      x: 0,
      y: 1 - index / rows,
      xanchor: "left",
      yanchor: "top",
      showarrow: false,
      font: { ...font, color: text },
      borderpad: 0,
      yshift: 4,
    })),
  };
}

/** About six round times and how they are written. */
function makeClockTicks([from, to]) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];
  const step = steps.find((each) => (to - from) / each <= 7) ?? 7200;
  const ticks = [];
  for (let at = Math.ceil(from / step) * step; at <= to + 1e-9; at += step) ticks.push(Math.round(at * 10) / 10);
  return [ticks, ticks.map((at) => formatClock(at, step < 1))];
}

function makeTraces(data, persons) {
  const line = { mode: "lines", line: { width: 0, shape: "hv" }, hoverinfo: "skip" };
  const veil = resolveColor("--panel").replace("rgb(", "rgba(").replace(")", ", 0.6)");
  return persons.flatMap(({ track }, index) => {
    const { times, rows, unsure } = sampleProbabilities(data, track);
    const axis = { ...line, x: times, yaxis: `y${index ? index + 1 : ""}` };
    return [
      ...data.labels.map((label, at) => ({
        ...axis,
        y: rows.map((row) => row[at]),
        stackgroup: `${index}`,
        fillcolor: getLabelColor(label),
      })),
      { ...axis, y: unsure.map(Number), fill: "tozeroy", fillcolor: veil }, // pale where the model is unsure
    ];
  });
}

/**
 * A person's probabilities (seconds, rows of K), thinned, and whether the model is unsure of them; zero where the person is
 * not seen, so that the areas break off.
 */
export function sampleProbabilities(data, track) {
  const every = Math.max(1, Math.ceil(data.times.length / MOST_POINTS));
  const none = data.labels.map(() => 0);
  /** @type {[number[], number[][], boolean[]]} */
  const [times, rows, unsure] = [[], [], []];
  for (let at = 0; at < data.times.length; at += every) {
    const face = data.faces[at].find(([each]) => each === track);
    times.push(data.times[at]);
    rows.push(face ? face[6] : none);
    unsure.push(Boolean(face) && face[6][face[5]] < (data.unsure_below ?? 0));
  }
  times.push(data.seconds || data.times.at(-1));
  rows.push(rows.at(-1) ?? none);
  unsure.push(unsure.at(-1) ?? false);
  return { times, rows, unsure };
}
