// A finished video: it plays with boxes that follow, its people over time, its moments, its files.

import { $, $$, button, icon, make, stem } from "./dom.js";
import * as api from "./api.js";
import { bars, timeline } from "./chart.js";
import { INSIDE_S, isOver, onFrames, seekTo, shiftOf } from "./film.js";
import { facesAt } from "./frames.js";
import { drawStills, momentsOf } from "./moments.js";
import { drawFaces } from "./overlay.js";
import { transport } from "./transport.js";
import { colorOfLabel } from "./store.js";
import { clock, labelName, number, percent, percents, span, t } from "./words.js";

/** Persons that the timeline shows until the person asks for all. */
const MOST_ROWS = 4;

let actions;
/**
 * What is open: null, or {job, data, video, chart, track, boxes, stop: AbortController, …}. `shift` is the player's clock
 * less ours (see film.js), null until a frame was shown.
 */
let now = null;

export function start(doings) {
  actions = doings;
  // Settings are on another tab, and this one is closed then; only the system's theme changes under an open video.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => now?.chart?.draw());
}

export async function open(job) {
  const mine = { job, stop: new AbortController(), boxes: true, rows: MOST_ROWS, chart: null, shift: null };
  now = mine;
  $("#player").replaceChildren(make("p", { class: "status", role: "status", text: t("video.loading") }));
  try {
    const summary = await api.summary(job.id);
    const { seconds } = summary;
    mine.moments = momentsOf(summary);
    mine.data = await api.frames(job.id, seconds < 300 ? 30 : seconds < 3600 ? 10 : 4);
  } catch (error) {
    if (now === mine)
      $("#player").replaceChildren(back(), make("p", { class: "error-text", role: "alert", text: error.message }));
    return;
  }
  if (now !== mine) return;
  mine.track = mine.data.people[0]?.track ?? null;
  build();
  $("#player h1").focus();
}

export function close() {
  if (!now) return;
  now.stop.abort();
  now.chart?.close();
  now.video?.pause();
  $("#player").replaceChildren();
  now = null;
}

const back = () =>
  make("a", { class: "button quiet back", href: "#video" }, icon("back"), make("span", { text: t("video.back") }));

function build() {
  const { job, data } = now;
  const parts = { stage: stage(), timeline: place(), people: people(), moments: moments(), live: live() };
  $("#player").replaceChildren(
    make("div", { class: "bar" }, back(), make("h1", { class: "name", tabindex: -1, text: job.name })),
    make(
      "div",
      { class: "work", tabindex: -1 }, // a click in it leaves the focus, and so the keys, here
      make("div", { class: "main-column" }, parts.stage, parts.timeline, parts.moments),
      make("aside", { class: "side", "aria-label": t("video.side") }, parts.live, parts.people, files()),
    ),
  );
  if (!data.people.length) $(".timeline-card").replaceChildren(make("p", { class: "none", text: t("video.nobody") }));
  else drawTimeline();
  follows(0);
  connect();
}

function stage() {
  const video = make("video", { playsinline: true, preload: "auto", "aria-label": now.job.name });
  const box = make("div", { class: "frame" }, video, make("canvas", { "aria-hidden": "true" }));
  box.style.setProperty("--ratio", now.data.width / now.data.height);
  box.style.setProperty("--natural", `${now.data.width}px`);
  now.video = video;
  const whole = make("div", { class: "cinema", id: "cinema" }, make("div", { class: "stage" }, box));
  whole.append(
    transport(video, whole, {
      toggleBoxes: (on) => ((now.boxes = on), overlay()),
      position: { now: () => ours(video.currentTime), end, seek },
      signal: now.stop.signal,
    }),
  );
  return whole;
}

/** A time of the player's clock in our seconds. */
const ours = (time) => Math.max(time - (now.shift ?? 0), 0);

/** The last of our seconds: sound may go on behind the pictures. */
const end = () => Math.max(now.data.seconds, ours(Number.isFinite(now.video.duration) ? now.video.duration : 0));

/**
 * Follow the frames of the video as it was sent, so that the boxes above it can be told how to look; the annotated one
 * where the browser cannot play that.
 */
function connect() {
  const { video, job, stop } = now;
  const mine = now;
  const show = (what) => {
    mine.shift = null;
    video.dataset.what = what;
    video.src = api.resultAddress(job.id, what);
  };
  const fallBack = () => {
    if (mine !== now || isAnnotated() || !job.results.includes("annotated.mp4")) return;
    $(".boxes", $("#player")).hidden = true;
    show("annotated.mp4"); // its boxes are part of it
  };
  video.addEventListener("error", fallBack, { signal: stop.signal });
  video.addEventListener("loadedmetadata", () => video.videoWidth || fallBack(), { signal: stop.signal });
  show(job.results.includes("source") ? "source" : "annotated.mp4");
  onFrames(video, stop.signal, (mediaTime) => {
    if (mine.shift === null) {
      mine.shift = isAnnotated() ? 0 : shiftOf(mediaTime, mine.data.start_s ?? 0);
      video.dispatchEvent(new Event("clockchange")); // for whatever shows its time
      if (mine.moments.length) drawStills({ address: video.src, shift: mine.shift }, mine.moments, mine.data, stop.signal);
    }
    follows(ours(mediaTime));
  });
  video.addEventListener("seeking", () => now?.chart?.show(ours(video.currentTime)), { signal: stop.signal });
  const resized = new ResizeObserver(() => overlay());
  resized.observe(video);
  stop.signal.addEventListener("abort", () => resized.disconnect());
}

const isAnnotated = () => now.video.dataset.what === "annotated.mp4";

/** Everything that moves with the video. */
function follows(second) {
  now.second = second;
  overlay();
  now.chart?.show(second);
  const shown = facesAt(now.data, second);
  const face = shown.find(({ track }) => track === now.track);
  showPresence(face, shown);
  now.showBars?.(
    face ? Object.fromEntries(now.data.labels.map((label, at) => [label, face.probabilities[at]])) : null,
    now.data.labels,
  );
}

function overlay() {
  if (!now?.data) return;
  const canvas = $("#cinema canvas");
  const shown = now.boxes && !isAnnotated() ? facesAt(now.data, now.second ?? 0) : [];
  const chosen = shown.length > 1 ? shown.findIndex(({ track }) => track === now.track) : -1;
  drawFaces(canvas, shown, { width: now.data.width, height: now.data.height, chosen });
}

/** Go to one of our seconds. */
function seek(second) {
  const { video, stop, shift } = now;
  const time = Math.min(Math.max(second, 0), end()) + (shift ?? 0);
  seekTo(video, time, stop.signal).catch((error) => {
    if (!isOver(error, stop.signal)) throw error;
  });
}

function place() {
  const key = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    const edge = { Home: 0, End: end() }[event.key];
    if (step === undefined && edge === undefined) return;
    event.preventDefault();
    seek(edge ?? ours(now.video.currentTime) + step);
  };
  const slider = make(
    "div",
    {
      class: "timeline",
      role: "slider",
      tabindex: 0,
      "aria-label": t("video.timeline"),
      "aria-valuemin": 0,
      "aria-valuemax": 0,
      "aria-valuenow": 0,
      onkeydown: key,
    },
    make("div", { class: "chart" }),
    make("div", { class: "pointer", hidden: true }),
  );
  const legend = now.data.labels.map((label) =>
    make("li", { style: { "--color": colorOfLabel(label) }, text: labelName(label) }),
  );
  return make(
    "section",
    { class: "card timeline-card" },
    make(
      "div",
      { class: "bar" },
      make("h2", { text: t("video.timeline") }),
      make("p", { class: "note hint", text: t("video.timeline.hint") }),
    ),
    slider,
    make("ul", { class: "legend", "aria-label": t("legend") }, ...legend),
  );
}

async function drawTimeline() {
  const { data, rows, job } = now;
  const mine = now;
  const card = $(".timeline-card");
  const shown = data.people.slice(0, rows).sort((a, b) => a.first_s - b.first_s);
  const slider = $(".timeline", card);
  $(".more", card)?.remove();
  const chart = await timeline(slider, data, shown, seek);
  if (now !== mine || !slider.isConnected) return chart?.close();
  now.chart = chart;
  if (!chart) {
    slider.replaceChildren(
      job.results.includes("timeline.png")
        ? make("img", { src: api.resultAddress(job.id, "timeline.png"), alt: t("video.timeline") })
        : make("p", { class: "note", text: t("video.noplotly") }),
    );
    for (const name of ["role", "tabindex", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow"])
      slider.removeAttribute(name); // a picture: nothing in it moves
    return;
  }
  chart.show(ours(now.video.currentTime));
  if (data.people.length > rows)
    card.append(
      button(
        "",
        t("video.all", { count: data.people.length }),
        () => {
          now.chart.close();
          now.rows = Infinity;
          drawTimeline();
        },
        { class: "button quiet more" },
      ),
    );
}

/** The chosen person's expressions at this moment. */
function live() {
  const list = make("ol", { class: "bars", "aria-label": t("bars") });
  now.showBars = bars(list);
  now.showBars(null, now.data.labels);
  const title = make("h2", { id: "live-title" });
  const note = make("p", { class: "note", id: "live-note" });
  return make("section", { class: "card", hidden: now.track === null, "aria-labelledby": "live-title" }, title, list, note);
}

/** Above and below the bars: whether the chosen person is in view at this moment, and who is if not. */
function showPresence(face, shown) {
  if (now.track === null) return;
  const number = numberOf(now.track);
  $("#live-title").textContent = t(face ? "video.now" : "video.away", { number });
  const others = shown.filter(({ noFace }) => !noFace).map(({ track }) => numberOf(track)).sort((a, b) => a - b);
  $("#live-note").textContent = face
    ? doubtOf(face)
    : others.length
      ? t("video.others", { numbers: others.join(", ") })
      : t("video.nobody.now");
  for (const row of $$(".person")) row.classList.toggle("here", shown.some(({ track }) => `${track}` === row.dataset.track));
}

/** What a person is called. */
const numberOf = (track) => now.data.people.find((each) => each.track === track)?.person ?? track + 1;

/** Why there is a question mark behind the expression; nothing where there is none. */
function doubtOf({ label, probability, unsure, noFace }) {
  if (noFace) return t("picture.noface");
  if (!unsure) return "";
  const [share, from] = percents(probability, now.data.unsure_below);
  return t("picture.unsure", { label: labelName(label), share, from });
}

/** Each person in a line: how long, and the shares of what they showed. */
function people() {
  const rows = now.data.people.map((person) => {
    const shares = Object.entries(person.share)
      .filter(([, share]) => share > 0)
      .sort((a, b) => b[1] - a[1]);
    const words = [
      person.mostly_unsure && t("video.unsure"),
      shares
        .slice(0, 3)
        .map(([label, share]) => `${labelName(label)}${person.mostly_unsure ? "?" : ""} ${percent(share)}`)
        .join(", "),
      person.sure_share < 1 && person.sure_share !== null && t("video.sure", { share: percent(person.sure_share) }),
    ]
      .filter(Boolean)
      .join(" · ");
    const strip = make(
      "span",
      { class: `strip${person.mostly_unsure ? " unsure" : ""}`, "aria-hidden": "true" },
      ...shares.map(([label, share]) => make("i", { style: { "--share": share, "--color": colorOfLabel(label) } })),
    );
    return make(
      "button",
      {
        type: "button",
        class: "person",
        "aria-pressed": person.track === now.track,
        onclick: () => choose(person.track),
        "data-track": person.track,
      },
      make(
        "span",
        { class: "who" },
        make("strong", { text: t("video.person", { number: person.person }) }),
        make("small", { text: t("video.seen", { seconds: number(person.on_screen_s, 1) }) }),
      ),
      strip,
      make("small", { text: words }),
    );
  });
  return make(
    "section",
    { class: "card people", hidden: !rows.length },
    make("h2", { text: t("video.people") }),
    make("div", { class: "scrolls" }, ...rows),
    ...notes().map((text) => make("p", { class: "note", text })),
  );
}

/** What question marks mean, and what is counted nowhere. */
function notes() {
  const { people, not_faces: noFaces, unsure_below: from } = now.data;
  const isUnsure = people.some(({ sure_share: share }) => share < 1 && share !== null);
  return [
    isUnsure && from && t("video.unsure.note", { from: percent(from) }),
    noFaces?.length && t("video.nofaces", { count: noFaces.length }),
  ].filter(Boolean);
}

function choose(track) {
  now.track = track;
  for (const each of $$(".person")) each.setAttribute("aria-pressed", Number(each.dataset.track) === track);
  follows(now.second ?? 0);
}

function moments() {
  const found = [...new Set(now.moments.map(({ label }) => label))];
  const groups = found.map((label) =>
    make(
      "li",
      { style: { "--color": colorOfLabel(label) } },
      make("h3", { text: labelName(label) }),
      make(
        "div",
        { class: "strip-of-moments" },
        ...now.moments.filter((each) => each.label === label).map(momentButton),
      ),
    ),
  );
  return make(
    "section",
    { class: "card moments", hidden: !found.length },
    make(
      "div",
      { class: "bar" },
      make("h2", { text: t("video.moments") }),
      make("p", { class: "note hint", text: t("video.moments.hint") }),
    ),
    make("ul", {}, ...groups),
  );
}

function momentButton(moment) {
  const { label, track, person, player_time_s: time, probability } = moment;
  const words = t("video.moment", {
    label: labelName(label),
    share: percent(probability),
    person,
    time: clock(time, true),
  });
  const jump = () => {
    choose(track);
    seek(time + INSIDE_S);
    $("#cinema").scrollIntoView({
      block: "nearest",
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
  };
  moment.canvas = make("canvas", { width: 128, height: 128, "aria-hidden": "true" });
  return make(
    "button",
    { type: "button", class: "moment", "aria-label": words, onclick: jump },
    moment.canvas,
    make("span", { text: clock(time, true) }),
    make("small", { text: percent(probability) }),
  );
}

/** In the order in which people want them; what a job has not is left out. */
const FILES = [
  "annotated.mp4",
  "records.csv",
  "records.parquet",
  "records.jsonl",
  "timeline.png",
  "timeline.html",
  "summary.json",
  "vtt",
];

function files() {
  const { job } = now;
  const links = FILES.filter((what) => job.results.includes(what)).map((what) =>
    make(
      "a",
      { class: "button", href: api.resultAddress(job.id, what, true), download: `${stem(job.name)}.${what}` },
      icon("save"),
      make("span", { text: t(`file.${what}`) }),
    ),
  );
  const until = job.expires ? t("video.expires", { span: span(Math.max(job.expires - Date.now() / 1000, 0)) }) : "";
  return make(
    "section",
    { class: "card downloads" },
    make("h2", { text: t("downloads") }),
    make("div", { class: "buttons" }, ...links),
    make("p", { class: "note", text: until }),
    button("bin", t("video.remove"), () => actions.remove(job), { class: "button quiet danger" }),
  );
}
