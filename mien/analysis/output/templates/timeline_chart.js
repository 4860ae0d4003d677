// The expressions of persons over time, drawn by plotly: the chart of the timeline page and of the service's page.
//
// The service sends this file as a module; the timeline page has it inside. So it imports nothing.

/**
 * What `Timeline.to_json` of mien/analysis/people/timeline.py gives. Time is divided into bins of `width_s` seconds from
 * `start_s` on. A run is [first bin, probabilities, unsure]: bins without a gap between them, K probabilities of each in
 * thousandths, and 1 for each bin in which the person is mostly unsure.
 *
 * @typedef {[number, number[], number[]]} Run
 * @typedef {{ person: number, track: number, runs: Run[], name?: string }} TimelinePerson
 * @typedef {{ labels: string[], start_s: number, width_s: number, cuts_s: number[], persons: TimelinePerson[] }} TimelineData
 */

/**
 * @typedef {object} ChartOptions
 * @property {any} plotly
 * @property {[number, number]} range the first and the last second of the axis
 * @property {string} paper the variable of the style sheet with the color behind the chart
 * @property {(label: string) => string} getColor
 * @property {(person: TimelinePerson) => string} getName what stands above a person's row
 * @property {string} [empty] what stands there without a person
 * @property {(second: number) => void} onSeek hears the second that was clicked
 */

const MARGIN = { l: 16, r: 16, t: 22, b: 30 };
const ROW_PX = 72;
const GAP_PX = 24;
/** A press that moves further than this drags. */
const CLICK_PX = 5;

/** 75.3 → "1:15"; with tenths "1:15.3". */
export function formatClock(seconds, tenths = false) {
  const whole = tenths ? Math.floor(seconds * 10 + 1e-6) / 10 : Math.floor(seconds + 1e-6);
  const minutes = Math.floor(whole / 60);
  const rest = whole - minutes * 60;
  const head = minutes >= 60 ? `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}` : `${minutes}`;
  return `${head}:${rest.toFixed(tenths ? 1 : 0).padStart(tenths ? 4 : 2, "0")}`;
}

/**
 * Draw a timeline into `board`, whose elements .chart, .pointer and .ghost (the time under the mouse) it fills and moves.
 *
 * @param {HTMLElement} board positioned, so that the pointers are placed in it
 * @param {TimelineData} timeline
 * @param {ChartOptions} options
 */
export function createTimelineChart(board, timeline, options) {
  const [chart, pointer, ghost] = [".chart", ".pointer", ".ghost"].map((name) => /** @type {any} */ (board.querySelector(name)));
  const { plotly, range: whole } = options;
  let shown = /** @type {number[]} */ ([...whole]);
  let persons = /** @type {TimelinePerson[]} */ ([]);
  let now = whole[0];
  let isListening = false;

  const getWidth = () => Math.max(chart.clientWidth - MARGIN.l - MARGIN.r, 1);
  const placeLine = (line, second) => {
    const share = (second - shown[0]) / (shown[1] - shown[0]);
    line.hidden = !(share >= 0 && share <= 1);
    line.style.transform = `translateX(${chart.offsetLeft + MARGIN.l + share * getWidth()}px)`;
  };
  const show = (second) => placeLine(pointer, (now = second));
  const secondAt = (event) => {
    const share = (event.clientX - chart.getBoundingClientRect().left - MARGIN.l) / getWidth();
    return Math.min(Math.max(shown[0] + share * (shown[1] - shown[0]), whole[0]), whole[1]);
  };
  const draw = async (chosen = persons) => {
    persons = chosen;
    const settings = { displayModeBar: false, responsive: false, doubleClick: false, showTips: false };
    await plotly.react(chart, makeTraces(timeline, persons, options), makeLayout(persons, shown, options), settings);
    if (!isListening) {
      chart.on("plotly_relayout", onRangeChange);
      chart.on("plotly_doubleclick", () => showRange(whole));
    }
    isListening = true; // plotly keeps listeners when it draws again
    show(now);
  };
  const showRange = (range) => plotly.relayout(chart, { "xaxis.range": [...range] });
  const onRangeChange = (change) => {
    if (!Object.keys(change).some((key) => key.startsWith("xaxis.range"))) return;
    shown = chart.layout.xaxis.range.map(Number);
    const [values, words] = makeClockTicks(shown);
    plotly.relayout(chart, { "xaxis.tickvals": values, "xaxis.ticktext": words });
    show(now);
  };

  const stop = new AbortController();
  let pressed = /** @type {any} */ (null);
  chart.addEventListener("pointerdown", (event) => (pressed = event), { capture: true, signal: stop.signal });
  addEventListener(
    // plotly lays a cover over the page while a button is held, so the release is heard there
    "pointerup",
    (event) => {
      if (pressed && Math.hypot(event.clientX - pressed.clientX, event.clientY - pressed.clientY) < CLICK_PX)
        options.onSeek(secondAt(event));
      pressed = null;
    },
    { capture: true, signal: stop.signal },
  );
  chart.addEventListener("pointermove", (event) => placeLine(ghost, secondAt(event)), { signal: stop.signal });
  chart.addEventListener("pointerleave", () => (ghost.hidden = true), { signal: stop.signal });
  let width = chart.clientWidth;
  const resized = new ResizeObserver(() => {
    if (chart.clientWidth && chart.clientWidth !== width) draw();
    width = chart.clientWidth;
  });
  resized.observe(chart);
  return {
    draw,
    show,
    showAll: () => showRange(whole),
    close: () => {
      stop.abort();
      resized.disconnect();
      plotly.purge(chart);
    },
  };
}

/** The index of the bin in which a second lies. */
export const getBin = (timeline, second) => Math.floor((second - timeline.start_s) / timeline.width_s + 1e-6);

/** What a color of the style sheet is at the moment, as the browser resolved it: "rgb(r, g, b)". */
function resolveColor(variable) {
  const probe = document.createElement("i");
  probe.style.cssText = `color: var(${variable}); display: none`;
  document.body.append(probe);
  const color = getComputedStyle(probe).color;
  probe.remove();
  return color;
}

function makeLayout(persons, shown, { range: [start, end], getName, empty = "" }) {
  const [soft, line, text] = ["--soft", "--line", "--text"].map(resolveColor);
  const font = { family: getComputedStyle(document.body).fontFamily, size: 12, color: soft };
  const rows = persons.length || 1;
  const height = rows * ROW_PX + (rows - 1) * GAP_PX;
  const tops = Array.from({ length: rows }, (_, row) => 1 - (row * (ROW_PX + GAP_PX)) / height);
  const axis = { range: [0, 1], fixedrange: true, showticklabels: false, showgrid: false, zeroline: false, anchor: "x" };
  const [ticks, words] = makeClockTicks(shown);
  return {
    ...Object.fromEntries(
      tops.map((top, row) => [`yaxis${getSuffix(row)}`, { ...axis, domain: [Math.max(top - ROW_PX / height, 0), top] }]),
    ),
    xaxis: {
      range: [...shown],
      minallowed: start,
      maxallowed: end,
      tickvals: ticks,
      ticktext: words,
      tickcolor: line,
      linecolor: line,
      ticks: "outside",
      ticklen: 4,
      showgrid: false,
      zeroline: false,
      anchor: `y${getSuffix(rows - 1)}`,
    },
    height: height + MARGIN.t + MARGIN.b,
    margin: MARGIN,
    showlegend: false,
    hovermode: false,
    dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", // a finger scrolls the page
    paper_bgcolor: "transparent",
    plot_bgcolor: "transparent",
    font,
    annotations: tops.map((top, row) => ({
      text: persons[row] ? getName(persons[row]) : empty,
      xref: "paper",
      yref: "paper",
      x: 0,
      y: top,
      xanchor: "left",
      yanchor: "bottom",
      showarrow: false,
      font: { ...font, color: text },
      borderpad: 0,
    })),
  };
}

const getSuffix = (row) => (row ? `${row + 1}` : "");

/** A few round times, and how they are written. */
function makeClockTicks(range) {
  const [from, to] = range;
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18_000, 36_000];
  const most = innerWidth < 600 ? 5 : 9;
  const step = steps.find((each) => (to - from) / each <= most) ?? 86_400;
  const ticks = [];
  for (let tick = Math.ceil(from / step - 1e-6); tick * step <= to + 1e-6; tick++) ticks.push(tick * step);
  return [ticks, ticks.map((second) => formatClock(second, step < 1))];
}

function makeTraces(timeline, persons, { getColor, paper, range }) {
  const line = { type: "scatter", mode: "lines", hoverinfo: "skip" };
  const area = { ...line, line: { width: 0, shape: "hv" } };
  const veil = resolveColor(paper).replace("rgb(", "rgba(").replace(")", ", 0.6)");
  return persons.flatMap((person, row) => {
    const yaxis = `y${getSuffix(row)}`;
    const areas = timeline.labels.map((label, index) => ({
      ...area,
      ...makeSteps(timeline, person, index, range[0]),
      yaxis,
      stackgroup: `${row}`,
      fillcolor: getColor(label),
    }));
    const pale = { ...area, ...makeSteps(timeline, person, -1, range[0]), yaxis, fill: "tozeroy", fillcolor: veil };
    const cuts = {
      ...line,
      x: timeline.cuts_s.flatMap((cut) => [cut, cut, null]),
      y: timeline.cuts_s.flatMap(() => [0, 1, null]),
      yaxis,
      line: { color: resolveColor("--text"), width: 0.8, dash: "dot" },
    };
    return [...areas, pale, ...(timeline.cuts_s.length ? [cuts] : [])];
  });
}

/** A person's probabilities of a label as steps, 0 where the person is not seen; of index -1, where they are mostly unsure. */
function makeSteps(timeline, { runs }, index, start) {
  const count = timeline.labels.length;
  const secondOf = (bin) => timeline.start_s + bin * timeline.width_s;
  const [x, y] = [[start], [0]];
  for (const [first, values, unsure] of runs) {
    for (let bin = 0; bin < unsure.length; bin++) {
      x.push(secondOf(first + bin));
      y.push(index < 0 ? unsure[bin] : values[bin * count + index] / 1000);
    }
    x.push(secondOf(first + unsure.length)); // a gap: nothing is stacked until the person is seen again
    y.push(0);
  }
  return { x, y };
}
