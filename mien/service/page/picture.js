// The tab that reads one picture.

import { $, announce, button, icon, make, save, stem } from "./dom.js";
import * as api from "./api.js";
import { bars } from "./chart.js";
import { drawFaces, faceUnder } from "./overlay.js";
import { saveCsv, saveJson } from "./records.js";
import { boxColor, onChange, server } from "./store.js";
import { explained, labelName, nameOf, number, percent, percents, shownOf, t } from "./words.js";

let shared;
/** The picture at hand: its file, what the service read in it, which face is chosen. */
let [file, reading, chosen] = [null, null, -1];
let [request, preview] = [null, ""];
let showBars = null;
/** Maps that were asked for, by face: the address of a picture. */
let maps = new Map();

const frame = () => $("#picture-stage .frame");
const canvas = () => $("#picture-stage canvas");

export function start(given) {
  shared = given;
  const chooser = $("#picture-file");
  for (const id of ["#picture-drop", "#picture-other"]) $(id).addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) take(chooser.files[0]);
    chooser.value = "";
  });
  canvas().addEventListener("click", (event) => {
    const found = reading ? faceUnder(event, canvas(), reading.faces, reading) : -1;
    if (found >= 0) choose(found);
  });
  new ResizeObserver(draw).observe(canvas());
  onChange((changed, readAgain) => {
    if (!file) return;
    if (readAgain) take(file);
    else if (reading) fill();
    else if (changed.has("language")) take(file);
  });
}

/** Read a picture; one that is still being read is left. */
export async function take(given) {
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  [file, reading, chosen] = [given, null, -1];
  for (const address of maps.values()) URL.revokeObjectURL(address);
  maps = new Map();
  $("#picture-start").hidden = true;
  $("#picture-work").hidden = false;
  $("#picture-name").textContent = given.name || t("picture.pasted");
  $("#picture-side").replaceChildren();
  $("#picture-work").classList.remove("broken");
  $("#picture-name").focus();
  say(t("picture.reading"));
  showPreview(given);
  try {
    const read = await api.readPicture(given, signal);
    if (signal.aborted) return; // another is being read by now
    frame().classList.remove("busy");
    reading = { ...read, faces: read.faces.map((face) => ({ ...face, ...shownOf(face) })) };
    await showPicture(read.picture || preview, read.width, read.height);
    if (signal.aborted) return;
    chosen = reading.faces.length ? 0 : -1;
    fill();
    announce(summary());
  } catch (error) {
    if (!signal.aborted) refuse(error);
  }
}

/** The browser's own view of the file until the service has answered; formats it cannot show leave the stage empty. */
function showPreview(given) {
  if (preview) URL.revokeObjectURL(preview);
  preview = URL.createObjectURL(given);
  frame().classList.add("busy");
  const image = $("img", frame());
  image.hidden = true;
  image.onerror = () => (image.hidden = true);
  image.onload = () => {
    image.hidden = false;
    size(image.naturalWidth, image.naturalHeight);
  };
  image.src = preview;
  image.alt = "";
  draw();
}

async function showPicture(address, width, height) {
  const image = $("img", frame());
  image.onload = image.onerror = null;
  image.src = address;
  await image.decode().catch(() => {}); // it is drawn when it can be
  image.hidden = false;
  size(width, height);
}

function size(width, height) {
  frame().style.setProperty("--ratio", width / height);
  frame().style.setProperty("--natural", `${width}px`);
}

function refuse(error) {
  const { problem, hint } = explained(error);
  frame().classList.remove("busy");
  const image = $("img", frame());
  image.onload = image.onerror = null;
  image.hidden = true;
  image.removeAttribute("src");
  say("");
  $("#picture-work").classList.add("broken");
  $("#picture-side").replaceChildren(
    make(
      "section",
      { class: "card failed", role: "alert" },
      make("h2", { text: t("picture.failed") }),
      make("p", {}, make("strong", { text: `${file.name || error.name}: ` }), problem || error.message),
      hint && make("p", { class: "note", text: hint }),
    ),
  );
}

const say = (text) => ($("#picture-status").textContent = text);

function summary() {
  const count = reading.faces.length;
  if (!count) return t("picture.nothing");
  const each = reading.faces.map((face) => `${nameOf(face)} ${percent(face.probability)}`).join(", ");
  return `${t("picture.found", { count })}: ${each}`;
}

/** Everything beside and below the picture, in the present language and colors. */
function fill() {
  const { faces, model, detector, width, height, seconds } = reading;
  $("img", frame()).alt = summary();
  say(
    [
      faces.length ? t("picture.found", { count: faces.length }) : t("picture.nothing"),
      `${number(width)} × ${number(height)}`, // a picture's size reads the same everywhere
      t("picture.by", { model, detector }),
      t("picture.seconds", { seconds: number(seconds, 2) }),
    ].join(" · "),
  );
  const side = $("#picture-side");
  if (!faces.length) side.replaceChildren(nothing());
  else {
    side.replaceChildren(
      ...(faces.length > 1 ? [chips(faces)] : []),
      make("section", { class: "card face" }),
      downloads(),
    );
    choose(chosen);
  }
  draw();
}

function nothing() {
  return make(
    "section",
    { class: "card nothing" },
    icon("noface"),
    make("h2", { text: t("picture.nothing") }),
    make("p", { text: t("picture.nothing.hint") }),
    server.detectors.includes("none") && make("p", { class: "note", text: t("picture.nothing.crop") }),
  );
}

function chips(faces) {
  const list = faces.map((face, index) =>
    make(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": "false",
        onclick: () => choose(index),
        style: { "--color": boxColor(face) },
      },
      face.crop && make("img", { src: face.crop, alt: "", width: 40, height: 40 }),
      make("span", {}, make("small", { text: t("picture.face", { number: index + 1 }) }), nameOf(face)),
    ),
  );
  return make("div", { class: "chips", role: "group", "aria-label": t("picture.faces") }, ...list);
}

function choose(index) {
  chosen = index;
  document
    .querySelectorAll("#picture-side .chip")
    .forEach((chip, at) => chip.setAttribute("aria-pressed", at === index));
  const face = reading.faces[index];
  const list = make("ol", { class: "bars", "aria-label": t("bars") });
  showBars = bars(list);
  showBars(face.probabilities, Object.keys(face.probabilities));
  const [x1, y1, x2, y2] = face.box;
  const facts = [t("picture.size", { width: Math.round(x2 - x1), height: Math.round(y2 - y1) })];
  if (face.score !== null && face.score !== undefined) facts.push(t("picture.score", { score: number(face.score, 2) }));
  $("#picture-side .face").replaceChildren(
    make("p", { class: "over", text: t("picture.face", { number: index + 1 }) }),
    make(
      "h2",
      { class: "answer", style: { "--color": boxColor(face) } },
      nameOf(face),
      make("span", { text: percent(face.probability) }),
    ),
    ...doubts(face),
    list,
    make("p", { class: "note", text: facts.join(" · ") }),
    ...(face.crop ? [given(face, index)] : []),
  );
  draw();
}

/** What speaks against taking the answer at its word. */
function doubts(face) {
  const words = [];
  if (face.unsure && !face.noFace) words.push(unsure(face));
  if (face.noFace) words.push(t("picture.noface"));
  return words.map((text) => make("p", { class: "doubt", text }));
}

/** Why there is a question mark behind the expression. */
function unsure({ label, confidence, unsure_below: least }) {
  const [share, from] = percents(confidence, least);
  return t("picture.unsure", { label: labelName(label), share, from });
}

/** What the network was given, and on request where it looked. */
function given(face, index) {
  const map = make(
    "figure",
    { hidden: true },
    make("img", { alt: t("given.map.alt"), width: 144, height: 144 }),
    make("figcaption", { text: t("given.map") }),
  );
  const ask = button("eye", t("given.ask"), async () => {
    ask.disabled = true;
    try {
      if (!maps.has(index)) maps.set(index, URL.createObjectURL(await api.saliency(file, index)));
      showMap();
    } catch (error) {
      ask.disabled = false;
      why.textContent = error.message;
    }
  });
  const why = make("p", { class: "error-text", role: "alert" });
  const showMap = () => {
    $("img", map).src = maps.get(index);
    map.hidden = false;
    ask.hidden = true;
    note.hidden = false;
  };
  const note = make("p", { class: "note", text: t("given.note"), hidden: true });
  if (maps.has(index)) queueMicrotask(showMap);
  return make(
    "div",
    { class: "given" },
    make("h3", { text: t("given.title") }),
    make(
      "div",
      { class: "crops" },
      make(
        "figure",
        {},
        make("img", { src: face.crop, alt: t("given.crop.alt"), width: 144, height: 144 }),
        make("figcaption", { text: t("given.crop") }),
      ),
      map,
    ),
    server.saliency && ask,
    note,
    why,
  );
}

function downloads() {
  const name = stem(file.name || "pasted.png");
  const fetchAnnotated = async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      const blob = await api.annotated(file);
      save(blob, `${name}.annotated.${{ "image/png": "png", "image/webp": "webp" }[blob.type] || "jpg"}`);
    } catch (error) {
      shared.notice(error.message);
    } finally {
      pressed.disabled = false;
    }
  };
  return make(
    "section",
    { class: "card downloads" },
    make("h2", { text: t("downloads") }),
    make(
      "div",
      { class: "buttons" },
      button("save", t("downloads.picture"), fetchAnnotated),
      button("save", "CSV", () => saveCsv(reading.records, name)),
      button("save", "JSON", () => saveJson(reading.records, name)),
    ),
  );
}

function draw() {
  const faces = (reading?.faces || []).map((face, index, all) => ({
    ...face,
    number: all.length > 1 ? index + 1 : undefined,
  }));
  drawFaces(canvas(), faces, { width: reading?.width, height: reading?.height, chosen });
}
