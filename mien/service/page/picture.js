// The tab that reads one picture.

import { $, announce, makeButton, makeIcon, makeElement, saveFile, getStem } from "./dom.js";
import { isAnimated } from "./animation.js";
import * as api from "./api.js";
import { makeBars } from "./chart.js";
import { drawFaces, findFaceAt } from "./overlay.js";
import { saveCsv, saveJson } from "./records.js";
import { getBoxColor, onSettingsChange, server } from "./store.js";
import { explainError, getLabelName, getFaceName, formatNumber, formatPercent, formatPercents, getShownValues, t } from "./words.js";

/** @type {Shared} */
let shared;
/** The picture that is shown. @type {File} */
let file;
/** What the service answered, or null while it has not. @type {PictureResult | null} */
let result = null;
let chosen = -1;
/** @type {AbortController | null} */
let request = null;
let preview = "";
let showBars = null;
/** Whether the file moves. */
let isMoving = false;
/** Maps that were asked for, by face: the address of a picture. */
let maps = new Map();

const getFrame = () => $("#picture-stage .frame");
const getCanvas = () => $("#picture-stage canvas");

export function start(given) {
  shared = given;
  const chooser = $("#picture-file");
  for (const id of ["#picture-drop", "#picture-other"]) $(id).addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    if (chooser.files[0]) openFile(chooser.files[0]);
    chooser.value = "";
  });
  getCanvas().addEventListener("click", (event) => {
    const found = result ? findFaceAt(event, getCanvas(), result.faces, result) : -1;
    if (found >= 0) chooseFace(found);
  });
  new ResizeObserver(drawBoxes).observe(getCanvas());
  onSettingsChange((changed, readAgain) => {
    if (!file) return;
    if (readAgain) openFile(file);
    else if (result) showResult();
    else if (changed.has("language")) openFile(file);
  });
}

/** Read a picture; one that is still being read is left. */
export async function openFile(given) {
  request?.abort();
  request = new AbortController();
  const { signal } = request;
  [file, result, chosen] = [given, null, -1];
  for (const address of maps.values()) URL.revokeObjectURL(address);
  maps = new Map();
  $("#picture-start").hidden = true;
  $("#picture-work").hidden = false;
  $("#picture-name").textContent = given.name || t("picture.pasted");
  $("#picture-side").replaceChildren();
  $("#picture-work").classList.remove("broken");
  $("#picture-name").focus();
  showStatus(t("picture.reading"));
  showPreview(given);
  try {
    const [read, moves] = await Promise.all([api.analyzePicture(given, signal), isAnimated(given)]);
    if (signal.aborted) return; // another is being read by now
    getFrame().classList.remove("busy");
    isMoving = moves;
    /** @type {PictureResult} */
    const found = { ...read, faces: read.faces.map((face) => ({ ...face, ...getShownValues(face) })) };
    result = found;
    await showPicture(read.picture || preview, read.width, read.height);
    if (signal.aborted) return;
    chosen = found.faces.length ? 0 : -1;
    showResult();
    announce(describeFaces(found));
  } catch (error) {
    if (!signal.aborted) showError(error);
  }
}

/** The browser's own view of the file until the service has answered; formats it cannot show leave the stage empty. */
function showPreview(given) {
  if (preview) URL.revokeObjectURL(preview);
  preview = URL.createObjectURL(given);
  getFrame().classList.add("busy");
  const image = $("img", getFrame());
  image.hidden = true;
  image.onerror = () => (image.hidden = true);
  image.onload = () => {
    image.hidden = false;
    setSize(image.naturalWidth, image.naturalHeight);
  };
  image.src = preview;
  image.alt = "";
  drawBoxes();
}

async function showPicture(address, width, height) {
  const image = $("img", getFrame());
  image.onload = image.onerror = null;
  image.src = address;
  await image.decode().catch(() => {}); // it is drawn when it can be
  image.hidden = false;
  setSize(width, height);
}

function setSize(width, height) {
  getFrame().style.setProperty("--ratio", width / height);
  getFrame().style.setProperty("--natural", `${width}px`);
}

function showError(error) {
  const { problem, hint } = explainError(error);
  getFrame().classList.remove("busy");
  const image = $("img", getFrame());
  image.onload = image.onerror = null;
  image.hidden = true;
  image.removeAttribute("src");
  showStatus("");
  $("#picture-work").classList.add("broken");
  $("#picture-side").replaceChildren(
    makeElement(
      "section",
      { class: "card failed", role: "alert" },
      makeElement("h2", { text: t("picture.failed") }),
      makeElement("p", {}, makeElement("strong", { text: `${file.name || error.name}: ` }), problem || error.message),
      hint && makeElement("p", { class: "note", text: hint }),
    ),
  );
}

const showStatus = (text) => ($("#picture-status").textContent = text);

/** @param {PictureResult} found */
function describeFaces({ faces }) {
  const count = faces.length;
  if (!count) return t("picture.nothing");
  const each = faces.map((face) => `${getFaceName(face)} ${formatPercent(face.probability)}`).join(", ");
  return `${t("picture.found", { count })}: ${each}`;
}

/** Everything beside and below the picture, in the present language and colors. */
function showResult() {
  if (!result) return;
  const { faces, model, detector, width, height, seconds } = result;
  $("img", getFrame()).alt = describeFaces(result);
  showStatus(
    [
      faces.length ? t("picture.found", { count: faces.length }) : t("picture.nothing"),
      `${formatNumber(width)} × ${formatNumber(height)}`, // a picture's size reads the same everywhere
      t("picture.by", { model, detector }),
      t("picture.seconds", { seconds: formatNumber(seconds, 2) }),
    ].join(" · "),
  );
  const side = $("#picture-side");
  if (!faces.length) side.replaceChildren(makeNoFaceCard());
  else {
    side.replaceChildren(
      ...(faces.length > 1 ? [makeFaceButtons(faces)] : []),
      makeElement("section", { class: "card face" }),
      makeDownloads(result),
    );
    chooseFace(chosen);
  }
  if (isMoving) side.prepend(makeMovingCard());
  drawBoxes();
}

/** Of a moving picture only the first frame is shown: it is offered as a video. */
function makeMovingCard() {
  return makeElement(
    "section",
    { class: "card moving" },
    makeElement("p", { text: t("picture.moving") }),
    makeButton("play", t("picture.moving.video"), () => shared.sendVideos([file]), { class: "button primary" }),
  );
}

function makeNoFaceCard() {
  return makeElement(
    "section",
    { class: "card nothing" },
    makeIcon("noface"),
    makeElement("h2", { text: t("picture.nothing") }),
    makeElement("p", { text: t("picture.nothing.hint") }),
    server.detectors.includes("none") && makeElement("p", { class: "note", text: t("picture.nothing.crop") }),
  );
}

function makeFaceButtons(faces) {
  const list = faces.map((face, index) =>
    makeElement(
      "button",
      {
        type: "button",
        class: "chip",
        "aria-pressed": "false",
        onclick: () => chooseFace(index),
        style: { "--color": getBoxColor(face) },
      },
      face.crop && makeElement("img", { src: face.crop, alt: "", width: 40, height: 40 }),
      makeElement("span", {}, makeElement("small", { text: t("picture.face", { number: index + 1 }) }), getFaceName(face)),
    ),
  );
  return makeElement("div", { class: "chips", role: "group", "aria-label": t("picture.faces") }, ...list);
}

function chooseFace(index) {
  if (!result) return;
  chosen = index;
  document
    .querySelectorAll("#picture-side .chip")
    .forEach((chip, at) => chip.setAttribute("aria-pressed", String(at === index)));
  const face = result.faces[index];
  const list = makeElement("ol", { class: "bars", "aria-label": t("bars") });
  showBars = makeBars(list);
  showBars(face.probabilities, Object.keys(face.probabilities));
  const [x1, y1, x2, y2] = face.box;
  const facts = [t("picture.size", { width: Math.round(x2 - x1), height: Math.round(y2 - y1) })];
  if (face.score !== null && face.score !== undefined) facts.push(t("picture.score", { score: formatNumber(face.score, 2) }));
  $("#picture-side .face").replaceChildren(
    makeElement("p", { class: "over", text: t("picture.face", { number: index + 1 }) }),
    makeElement(
      "h2",
      { class: "answer", style: { "--color": getBoxColor(face) } },
      getFaceName(face),
      makeElement("span", { text: formatPercent(face.probability) }),
    ),
    ...makeDoubts(face),
    list,
    makeElement("p", { class: "note", text: facts.join(" · ") }),
    ...(face.crop ? [makeInputView(face, index)] : []),
  );
  drawBoxes();
}

/** What speaks against taking the answer at its word. */
function makeDoubts(face) {
  const words = [];
  if (face.unsure && !face.noFace) words.push(explainUnsure(face));
  if (face.noFace) words.push(t("picture.noface"));
  return words.map((text) => makeElement("p", { class: "doubt", text }));
}

/** Why there is a question mark behind the expression. */
function explainUnsure({ label, confidence, unsure_below: least }) {
  const [share, from] = formatPercents(confidence, least);
  return t("picture.unsure", { label: getLabelName(label), share, from });
}

/** What the network was given, and on request where it looked. */
function makeInputView(face, index) {
  const map = makeElement(
    "figure",
    { hidden: true },
    makeElement("img", { alt: t("given.map.alt"), width: 144, height: 144 }),
    makeElement("figcaption", { text: t("given.map") }),
  );
  const ask = makeButton("eye", t("given.ask"), async () => {
    ask.disabled = true;
    try {
      if (!maps.has(index)) maps.set(index, URL.createObjectURL(await api.explainFace(file, index)));
      showMap();
    } catch (error) {
      ask.disabled = false;
      why.textContent = error.message;
    }
  });
  const why = makeElement("p", { class: "error-text", role: "alert" });
  const showMap = () => {
    $("img", map).src = maps.get(index);
    map.hidden = false;
    ask.hidden = true;
    note.hidden = false;
  };
  const note = makeElement("p", { class: "note", text: t("given.note"), hidden: true });
  if (maps.has(index)) queueMicrotask(showMap);
  return makeElement(
    "div",
    { class: "given" },
    makeElement("h3", { text: t("given.title") }),
    makeElement(
      "div",
      { class: "crops" },
      makeElement(
        "figure",
        {},
        makeElement("img", { src: face.crop, alt: t("given.crop.alt"), width: 144, height: 144 }),
        makeElement("figcaption", { text: t("given.crop") }),
      ),
      map,
    ),
    server.saliency && ask,
    note,
    why,
  );
}

/** @param {PictureResult} found */
function makeDownloads({ records }) {
  const name = getStem(file.name || "pasted.png");
  const fetchAnnotated = async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true;
    try {
      const blob = await api.annotatePicture(file);
      saveFile(blob, `${name}.annotated.${{ "image/png": "png", "image/webp": "webp" }[blob.type] || "jpg"}`);
    } catch (error) {
      shared.showNotice(error.message);
    } finally {
      pressed.disabled = false;
    }
  };
  return makeElement(
    "section",
    { class: "card downloads" },
    makeElement("h2", { text: t("downloads") }),
    makeElement(
      "div",
      { class: "buttons" },
      makeButton("save", t("downloads.picture"), fetchAnnotated),
      makeButton("save", "CSV", () => saveCsv(records, name)),
      makeButton("save", "JSON", () => saveJson(records, name)),
    ),
  );
}

function drawBoxes() {
  const faces = (result?.faces || []).map((face, index, all) => ({
    ...face,
    number: all.length > 1 ? index + 1 : undefined,
  }));
  drawFaces(getCanvas(), faces, { width: result?.width, height: result?.height, chosen });
}
