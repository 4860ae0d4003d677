// A finished video: it plays with boxes that follow, its people over time, its moments, its files.

import { $, $$, makeButton, makeIcon, makeElement, getStem } from "./dom.js";
import * as api from "./api.js";
import { makeBars, makeTimeline } from "./chart.js";
import { INSIDE_S, isOver, onEachFrame, seekTo, computeShift } from "./film.js";
import { getFacesAt } from "./frames.js";
import { drawStills, selectMoments } from "./moments.js";
import { drawFaces } from "./overlay.js";
import { makeTransport } from "./transport.js";
import { getLabelColor } from "./store.js";
import { formatClock, getLabelName, formatNumber, formatPercent, formatPercents, formatSpan, t } from "./words.js";

/** Persons that the timeline shows until the person asks for all. */
const MOST_ROWS = 4;

let handlers;
/**
 * What is open: null, or {job, data, video, chart, track, boxes, stop: AbortController, …}. `shift` is the player's clock
 * less ours (see film.js), null until a frame was shown; `wanted` is where a seek before that leads.
 */
let current = null;

export function start(given) {
  handlers = given;
  // Settings are on another tab, and this one is closed then; only the system's theme changes under an open video.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.chart?.draw());
}

export async function open(job) {
  const session = { job, stop: new AbortController(), boxes: true, rows: MOST_ROWS, chart: null, shift: null, wanted: null };
  current = session;
  $("#player").replaceChildren(makeElement("p", { class: "status", role: "status", text: t("video.loading") }));
  try {
    const summary = await api.fetchSummary(job.id);
    const { seconds } = summary;
    session.moments = selectMoments(summary);
    session.data = await api.fetchFrames(job.id, seconds < 300 ? 30 : seconds < 3600 ? 10 : 4);
  } catch (error) {
    if (current === session)
      $("#player").replaceChildren(makeBackLink(), makeElement("p", { class: "error-text", role: "alert", text: error.message }));
    return;
  }
  if (current !== session) return;
  session.track = session.data.people[0]?.track ?? null;
  buildPage();
  $("#player h1").focus();
}

export function close() {
  if (!current) return;
  current.stop.abort();
  current.chart?.close();
  current.video?.pause();
  $("#player").replaceChildren();
  current = null;
}

const makeBackLink = () =>
  makeElement("a", { class: "button quiet back", href: "#video" }, makeIcon("back"), makeElement("span", { text: t("video.back") }));

function buildPage() {
  const { job, data } = current;
  const parts = { stage: makeStage(), timeline: makeSlider(), people: makePeopleCard(), moments: makeMomentsCard(), live: makeLiveCard() };
  $("#player").replaceChildren(
    makeElement("div", { class: "bar" }, makeBackLink(), makeElement("h1", { class: "name", tabindex: -1, text: job.name })),
    makeElement(
      "div",
      { class: "work", tabindex: -1 }, // a click in it leaves the focus, and so the keys, here
      makeElement("div", { class: "main-column" }, parts.stage, parts.timeline, parts.moments),
      makeElement("aside", { class: "side", "aria-label": t("video.side") }, parts.live, parts.people, makeFilesCard()),
    ),
  );
  if (!data.people.length) $(".timeline-card").replaceChildren(makeElement("p", { class: "none", text: t("video.nobody") }));
  else drawTimeline();
  showSecond(0);
  loadVideo();
}

function makeStage() {
  const video = makeElement("video", { playsinline: true, preload: "auto", "aria-label": current.job.name });
  const box = makeElement("div", { class: "frame" }, video, makeElement("canvas", { "aria-hidden": "true" }));
  box.style.setProperty("--ratio", current.data.width / current.data.height);
  box.style.setProperty("--natural", `${current.data.width}px`);
  current.video = video;
  const whole = makeElement("div", { class: "cinema", id: "cinema" }, makeElement("div", { class: "stage" }, box));
  whole.append(
    makeTransport(video, whole, {
      toggleBoxes: (on) => ((current.boxes = on), drawOverlay()),
      position: { now: () => toVideoTime(video.currentTime), end: getEnd, seek },
      signal: current.stop.signal,
    }),
  );
  return whole;
}

/** A time of the player's clock in our seconds. */
const toVideoTime = (time) => Math.max(time - (current.shift ?? 0), 0);

/** The last of our seconds: sound may go on behind the pictures. */
const getEnd = () => Math.max(current.data.seconds, toVideoTime(Number.isFinite(current.video.duration) ? current.video.duration : 0));

/**
 * Follow the frames of the video as it was sent, so that the boxes above it can be told how to look; the annotated one
 * where the browser cannot play that.
 */
function loadVideo() {
  const { video, job, stop } = current;
  const session = current;
  const showFile = (what) => {
    session.shift = null;
    video.dataset.what = what;
    video.src = api.getResultAddress(job.id, what);
  };
  const fallBack = () => {
    if (session !== current || isAnnotated() || !job.results.includes("annotated.mp4")) return;
    $(".boxes", $("#player")).hidden = true;
    showFile("annotated.mp4"); // its boxes are part of it
  };
  video.addEventListener("error", fallBack, { signal: stop.signal });
  video.addEventListener("loadedmetadata", () => video.videoWidth || fallBack(), { signal: stop.signal });
  showFile(job.results.includes("source") ? "source" : "annotated.mp4");
  onEachFrame(video, stop.signal, (mediaTime) => {
    if (session.shift === null) {
      session.shift = isAnnotated() ? 0 : computeShift(mediaTime, session.data.start_s ?? 0);
      video.dispatchEvent(new Event("clockchange")); // for whatever shows its time
      if (session.wanted !== null) seek(session.wanted);
      session.wanted = null;
      if (session.moments.length) drawStills({ address: video.src, shift: session.shift }, session.moments, session.data, stop.signal);
    }
    showSecond(toVideoTime(mediaTime));
  });
  video.addEventListener("seeking", () => current?.chart?.show(toVideoTime(video.currentTime)), { signal: stop.signal });
  const resized = new ResizeObserver(() => drawOverlay());
  resized.observe(video);
  stop.signal.addEventListener("abort", () => resized.disconnect());
}

const isAnnotated = () => current.video.dataset.what === "annotated.mp4";

/** Everything that moves with the video. */
function showSecond(second) {
  current.second = second;
  drawOverlay();
  current.chart?.show(second);
  const shown = getFacesAt(current.data, second);
  const face = shown.find(({ track }) => track === current.track);
  showPresence(face, shown);
  current.showBars?.(
    face ? Object.fromEntries(current.data.labels.map((label, at) => [label, face.probabilities[at]])) : null,
    current.data.labels,
  );
}

function drawOverlay() {
  if (!current?.data) return;
  const canvas = $("#cinema canvas");
  const shown = current.boxes && !isAnnotated() ? getFacesAt(current.data, current.second ?? 0) : [];
  const chosen = shown.length > 1 ? shown.findIndex(({ track }) => track === current.track) : -1;
  drawFaces(canvas, shown, { width: current.data.width, height: current.data.height, chosen });
}

/** Go to one of our seconds. */
function seek(second) {
  const { video, stop, shift } = current;
  if (shift === null) {
    current.wanted = second; // which clock the player has is only seen by its first frame
    return;
  }
  const time = Math.min(Math.max(second, 0), getEnd()) + shift;
  seekTo(video, time, stop.signal).then(
    // A busy browser may paint the frame of a standing video without telling of it.
    () => video.paused && !stop.signal.aborted && showSecond(toVideoTime(video.currentTime)),
    (error) => {
      if (!isOver(error, stop.signal)) throw error;
    },
  );
}

function makeSlider() {
  const key = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: 1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    const edge = { Home: 0, End: getEnd() }[event.key];
    if (step === undefined && edge === undefined) return;
    event.preventDefault();
    seek(edge ?? toVideoTime(current.video.currentTime) + step);
  };
  const slider = makeElement(
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
    makeElement("div", { class: "chart" }),
    makeElement("div", { class: "ghost", hidden: true }),
    makeElement("div", { class: "pointer", hidden: true }),
  );
  const legend = current.data.labels.map((label) =>
    makeElement("li", { style: { "--color": getLabelColor(label) }, text: getLabelName(label) }),
  );
  return makeElement(
    "section",
    { class: "card timeline-card" },
    makeElement(
      "div",
      { class: "bar" },
      makeElement("h2", { text: t("video.timeline") }),
      makeElement("p", { class: "note hint", text: t("video.timeline.hint") }),
    ),
    slider,
    makeElement("ul", { class: "legend", "aria-label": t("legend") }, ...legend),
  );
}

async function drawTimeline() {
  const { data, rows, job } = current;
  const session = current;
  const card = $(".timeline-card");
  const shown = data.people.slice(0, rows).sort((a, b) => a.first_s - b.first_s);
  const slider = $(".timeline", card);
  $(".more", card)?.remove();
  const chart = await makeTimeline(slider, data, shown, seek);
  if (current !== session || !slider.isConnected) return chart?.close();
  current.chart = chart;
  if (!chart) {
    slider.replaceChildren(
      job.results.includes("timeline.png")
        ? makeElement("img", { src: api.getResultAddress(job.id, "timeline.png"), alt: t("video.timeline") })
        : makeElement("p", { class: "note", text: t("video.noplotly") }),
    );
    for (const name of ["role", "tabindex", "aria-label", "aria-valuemin", "aria-valuemax", "aria-valuenow"])
      slider.removeAttribute(name); // a picture: nothing in it moves
    return;
  }
  chart.show(toVideoTime(current.video.currentTime));
  if (data.people.length > rows)
    card.append(
      makeButton(
        "",
        t("video.all", { count: data.people.length }),
        () => {
          current.chart.close();
          current.rows = Infinity;
          drawTimeline();
        },
        { class: "button quiet more" },
      ),
    );
}

/** The chosen person's expressions at this moment. */
function makeLiveCard() {
  const list = makeElement("ol", { class: "bars", "aria-label": t("bars") });
  current.showBars = makeBars(list);
  current.showBars(null, current.data.labels);
  const title = makeElement("h2", { id: "live-title" });
  const note = makeElement("p", { class: "note", id: "live-note" });
  return makeElement("section", { class: "card", hidden: current.track === null, "aria-labelledby": "live-title" }, title, list, note);
}

/** Above and below the bars: whether the chosen person is in view at this moment, and who is if not. */
function showPresence(face, shown) {
  if (current.track === null) return;
  const number = getPersonNumber(current.track);
  $("#live-title").textContent = t(face ? "video.now" : "video.away", { number });
  const others = shown.filter(({ noFace }) => !noFace).map(({ track }) => getPersonNumber(track)).sort((a, b) => a - b);
  $("#live-note").textContent = face
    ? explainDoubt(face)
    : others.length
      ? t("video.others", { numbers: others.join(", ") })
      : t("video.nobody.now");
  for (const row of $$(".person")) row.classList.toggle("here", shown.some(({ track }) => `${track}` === row.dataset.track));
}

/** What a person is called. */
const getPersonNumber = (track) => current.data.people.find((each) => each.track === track)?.person ?? track + 1;

/** Why there is a question mark behind the expression; nothing where there is none. */
function explainDoubt({ label, probability, unsure, noFace }) {
  if (noFace) return t("picture.noface");
  if (!unsure) return "";
  const [share, from] = formatPercents(probability, current.data.unsure_below);
  return t("picture.unsure", { label: getLabelName(label), share, from });
}

/** Each person in a line: how long, and the shares of what they showed. */
function makePeopleCard() {
  const rows = current.data.people.map((person) => {
    const shares = Object.entries(person.share)
      .filter(([, share]) => share > 0)
      .sort((a, b) => b[1] - a[1]);
    const words = [
      person.mostly_unsure && t("video.unsure"),
      shares
        .slice(0, 3)
        .map(([label, share]) => `${getLabelName(label)}${person.mostly_unsure ? "?" : ""} ${formatPercent(share)}`)
        .join(", "),
      person.sure_share < 1 && person.sure_share !== null && t("video.sure", { share: formatPercent(person.sure_share) }),
    ]
      .filter(Boolean)
      .join(" · ");
    const strip = makeElement(
      "span",
      { class: `strip${person.mostly_unsure ? " unsure" : ""}`, "aria-hidden": "true" },
      ...shares.map(([label, share]) => makeElement("i", { style: { "--share": share, "--color": getLabelColor(label) } })),
    );
    return makeElement(
      "button",
      {
        type: "button",
        class: "person",
        "aria-pressed": person.track === current.track,
        onclick: () => choosePerson(person.track),
        "data-track": person.track,
      },
      makeElement(
        "span",
        { class: "who" },
        makeElement("strong", { text: t("video.person", { number: person.person }) }),
        makeElement("small", { text: t("video.seen", { seconds: formatNumber(person.on_screen_s, 1) }) }),
      ),
      strip,
      makeElement("small", { text: words }),
    );
  });
  return makeElement(
    "section",
    { class: "card people", hidden: !rows.length },
    makeElement("h2", { text: t("video.people") }),
    makeElement("div", { class: "scrolls" }, ...rows),
    ...makeNotes().map((text) => makeElement("p", { class: "note", text })),
  );
}

/** What question marks mean, and what is counted nowhere. */
function makeNotes() {
  const { people, not_faces: noFaces, unsure_below: from } = current.data;
  const isUnsure = people.some(({ sure_share: share }) => share < 1 && share !== null);
  return [
    isUnsure && from && t("video.unsure.note", { from: formatPercent(from) }),
    noFaces?.length && t("video.nofaces", { count: noFaces.length }),
  ].filter(Boolean);
}

function choosePerson(track) {
  current.track = track;
  for (const each of $$(".person")) each.setAttribute("aria-pressed", Number(each.dataset.track) === track);
  showSecond(current.second ?? 0);
}

function makeMomentsCard() {
  const found = [...new Set(current.moments.map(({ label }) => label))];
  const groups = found.map((label) =>
    makeElement(
      "li",
      { style: { "--color": getLabelColor(label) } },
      makeElement("h3", { text: getLabelName(label) }),
      makeElement(
        "div",
        { class: "strip-of-moments" },
        ...current.moments.filter((each) => each.label === label).map(makeMomentButton),
      ),
    ),
  );
  return makeElement(
    "section",
    { class: "card moments", hidden: !found.length },
    makeElement(
      "div",
      { class: "bar" },
      makeElement("h2", { text: t("video.moments") }),
      makeElement("p", { class: "note hint", text: t("video.moments.hint") }),
    ),
    makeElement("ul", {}, ...groups),
  );
}

function makeMomentButton(moment) {
  const { label, track, person, player_time_s: time, probability } = moment;
  const words = t("video.moment", {
    label: getLabelName(label),
    share: formatPercent(probability),
    person,
    time: formatClock(time, true),
  });
  const jump = () => {
    choosePerson(track);
    seek(time + INSIDE_S);
    $("#cinema").scrollIntoView({
      block: "nearest",
      behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth",
    });
  };
  moment.canvas = makeElement("canvas", { width: 128, height: 128, "aria-hidden": "true" });
  return makeElement(
    "button",
    { type: "button", class: "moment", "aria-label": words, onclick: jump },
    moment.canvas,
    makeElement("span", { text: formatClock(time, true) }),
    makeElement("small", { text: formatPercent(probability) }),
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

function makeFilesCard() {
  const { job } = current;
  const links = FILES.filter((what) => job.results.includes(what)).map((what) =>
    makeElement(
      "a",
      { class: "button", href: api.getResultAddress(job.id, what, true), download: `${getStem(job.name)}.${what}` },
      makeIcon("save"),
      makeElement("span", { text: t(`file.${what}`) }),
    ),
  );
  const until = job.expires ? t("video.expires", { span: formatSpan(Math.max(job.expires - Date.now() / 1000, 0)) }) : "";
  return makeElement(
    "section",
    { class: "card downloads" },
    makeElement("h2", { text: t("downloads") }),
    makeElement("div", { class: "buttons" }, ...links),
    makeElement("p", { class: "note", text: until }),
    makeButton("bin", t("video.remove"), () => handlers.removeJob(job), { class: "button quiet danger" }),
  );
}
