// The tab of the camera: its pictures go to the service one at a time, boxes and bars come back.

import { $, announce, makeButton, makeElement } from "./dom.js";
import * as api from "./api.js";
import { makeBars } from "./chart.js";
import { drawFaces } from "./overlay.js";
import { saveCsv, saveJson } from "./records.js";
import { changeSettings, onSettingsChange, server, settings } from "./store.js";
import { formatClock, getLabelName, getFaceName, formatNumber, formatPercent, formatPercents, formatError, getShownValues, t } from "./words.js";

/** Pictures are sent at most so wide; faces are found at 640 pixels anyway. */
const WIDEST = 640;
/** An answer that takes longer is given up, and the next picture is sent. */
const PATIENCE_MS = 4000;
/** The records of a recording that is ended by turning the camera off are waited for so long. */
const RECORDS_MS = 120_000;
/** Codes with which the service ends a connection for good (RFC 6455): it would say the same again. */
const REFUSED = [1003, 1008, 1009];

/** What is on: null, or {stream, socket, waiting, times, …}. */
let current = null;
/** How often a camera was turned on or off: who waited for the browser's answer meanwhile does nothing with it. */
let switches = 0;
let records = null;
let showBars = null;

const video = () => $("#camera-work video");
const canvas = () => $("#camera-work canvas");
const showStatus = (text) => ($("#camera-status").textContent = text);

export function start() {
  $("#camera-on").addEventListener("click", () => turnOn());
  showBars = makeBars($("#camera-bars"));
  new ResizeObserver(drawBoxes).observe(canvas());
  onSettingsChange(() => {
    if (!current) return; // what changes how faces are read is on another tab, and this one is off then
    drawControls();
    drawBoxes();
  });
}

export function enter() {
  const usable = Boolean(navigator.mediaDevices?.getUserMedia);
  $("#camera-on").disabled = !usable;
  if (!usable) $("#camera-error").textContent = t("camera.insecure");
}

/** Nobody is filmed behind another tab. */
export const leave = () => turnOff();

async function turnOn(device = "") {
  const constraints = { width: { ideal: 1280 }, frameRate: { ideal: 30 } };
  let stream;
  const session = ++switches;
  $("#camera-error").textContent = "";
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: device ? { ...constraints, deviceId: { exact: device } } : { ...constraints, facingMode: "user" },
    });
  } catch (error) {
    if (session !== switches) return;
    const why = { NotAllowedError: "camera.denied", NotFoundError: "camera.missing", NotReadableError: "camera.busy" }[
      error.name
    ];
    const text = why ? t(why) : t("camera.other", { error: error.message });
    if (current) showStatus(text);
    else $("#camera-error").textContent = text;
    return;
  }
  if (session !== switches) {
    for (const track of stream.getTracks()) track.stop(); // it was allowed too late
    return;
  }
  if (current) for (const track of current.stream.getTracks()) track.stop();
  else {
    current = { socket: null, waiting: 0, times: [], faces: [], device, began: performance.now(), recording: 0 };
    connect();
  }
  Object.assign(current, { stream, device });
  stream.getVideoTracks()[0].onended = () => turnOff(t("camera.ended"));
  const devices = await navigator.mediaDevices.enumerateDevices();
  if (session !== switches) return;
  current.devices = devices.filter(({ kind }) => kind === "videoinput");
  $("#camera-start").hidden = true;
  $("#camera-work").hidden = false;
  $("#camera-records").hidden = !records;
  video().srcObject = stream;
  await video().play();
  if (session !== switches) return;
  $("#camera-work .frame").style.setProperty("--ratio", video().videoWidth / video().videoHeight);
  $("#camera-work .frame").style.setProperty("--natural", `${video().videoWidth}px`);
  drawControls();
  announce(t("camera.running"));
  startSending(current);
}

function turnOff(why = "") {
  switches += 1;
  if (!current) return;
  const { stream, socket, recording } = current;
  const closeSocket = () => socket?.close();
  if (recording && socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: "record", on: false })); // the records still come, and end the connection
    setTimeout(closeSocket, RECORDS_MS);
  } else closeSocket();
  for (const track of stream.getTracks()) track.stop();
  current = null;
  video().srcObject = null;
  $("#camera-error").textContent = why;
  updateLayout();
}

/** The stage is there while the camera is on; what was recorded stays below the invitation. */
function updateLayout() {
  const on = Boolean(current);
  $("#camera-start").hidden = on;
  $("#camera-work").hidden = !on && !records;
  $("#camera-work").classList.toggle("off", !on);
}

/** A socket, which reads with the present settings. */
function connect() {
  const session = current;
  const socket = new WebSocket(api.getCameraAddress());
  socket.binaryType = "arraybuffer";
  Object.assign(session, { socket, waiting: 0 });
  socket.onopen = () => showStatus(t("camera.running"));
  socket.onmessage = ({ data }) => onMessage(session, socket, JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    if (current !== session || session.socket !== socket) return;
    if (REFUSED.includes(code)) return turnOff(session.why ?? (reason || t("camera.broke")));
    showStatus(t(session.recording ? "camera.lost.recording" : "camera.lost"));
    session.recording = 0; // its rows were on the other side
    drawControls();
    setTimeout(() => reconnect(session, socket), 2000);
  };
}

/** A browser does not say why a connection was refused; a call of another kind asks for the token where it is missing. */
async function reconnect(session, socket) {
  await api.fetchServerSettings().catch(() => null);
  if (current === session && session.socket === socket) connect();
}

function onMessage(session, socket, message) {
  if (message.type === "records") {
    showRecords(message.records);
    if (current !== session) socket.close();
    if (message.full && current === session) {
      current.recording = 0;
      showStatus(t("camera.full"));
      drawControls();
    }
    return;
  }
  if (message.error) {
    session.why = formatError(message.error);
    if (current === session) showStatus(session.why);
    session.waiting = 0;
    return;
  }
  if (current !== session || session.socket !== socket) return;
  session.waiting = 0;
  session.send();
  const faces = message.faces.map((face) => ({ ...face, ...getShownValues(face) }));
  Object.assign(session, { faces, width: message.width, height: message.height });
  session.times.push(performance.now());
  while (session.times.length > 2 && session.times.at(-1) - session.times[0] > 2000) session.times.shift();
  showFrameRate(message.seconds);
  drawBoxes();
  showLargestFace();
}

/**
 * Send a picture whenever there is one that was not sent and the last was answered: at the camera's pace where the
 * service keeps up, else as soon as an answer comes.
 */
function startSending(session) {
  const { stream } = session;
  const frameCanvas = document.createElement("canvas");
  const pen = /** @type {CanvasRenderingContext2D} */ (frameCanvas.getContext("2d", { alpha: false }));
  let fresh = false;
  const isClosed = () => current !== session || session.stream !== stream;
  const waitForFrame = () => {
    if (video().requestVideoFrameCallback) video().requestVideoFrameCallback(onFrame);
    else requestAnimationFrame(onFrame);
  };
  const onFrame = () => {
    if (isClosed()) return;
    fresh = true;
    session.send();
    waitForFrame();
  };
  session.send = async () => {
    const late = performance.now() - session.waiting > PATIENCE_MS;
    if (isClosed() || !fresh || session.socket.readyState !== WebSocket.OPEN || (session.waiting && !late)) return;
    fresh = false;
    session.waiting = performance.now();
    const scale = Math.min(1, WIDEST / video().videoWidth);
    const [width, height] = [Math.round(video().videoWidth * scale), Math.round(video().videoHeight * scale)];
    if (frameCanvas.width !== width || frameCanvas.height !== height) Object.assign(frameCanvas, { width, height });
    pen.drawImage(video(), 0, 0, width, height);
    const head = new DataView(new ArrayBuffer(8));
    head.setFloat64(0, (performance.now() - session.began) / 1000, true);
    const jpeg = await new Promise((resolve) => frameCanvas.toBlob(resolve, "image/jpeg", 0.85));
    if (session.socket.readyState === WebSocket.OPEN && jpeg) session.socket.send(new Blob([head.buffer, jpeg]));
    else session.waiting = 0;
  };
  waitForFrame();
}

function showFrameRate(seconds) {
  const { times } = current;
  const fps = times.length > 2 ? ((times.length - 1) * 1000) / (times.at(-1) - times[0]) : 0;
  $("#camera-rate").textContent = fps ? t("camera.rate", { fps: formatNumber(fps), ms: formatNumber(seconds * 1000) }) : "";
  $("#camera-rate").dataset.fps = fps.toFixed(1);
}

/** The largest face's bars. */
function showLargestFace() {
  const size = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const face = [...current.faces].sort((a, b) => size(b) - size(a))[0];
  showBars(face?.probabilities ?? null, face ? Object.keys(face.probabilities) : server.labels);
  const [share, from] = face?.unsure && !face.noFace ? formatPercents(face.confidence, face.unsure_below) : [];
  $("#camera-doubt").textContent = share ? t("picture.unsure", { label: getLabelName(face.label), share, from }) : "";
  $("#camera-who").textContent = face ? `${getFaceName(face)} ${formatPercent(face.probability)}` : t("camera.nobody");
  if (current.recording) $("#camera-clock").textContent = formatClock((performance.now() - current.recording) / 1000);
}

function drawBoxes() {
  const faces = (current?.faces ?? []).map((face, _, all) => ({
    ...face,
    number: all.length > 1 ? (face.track ?? 0) + 1 : undefined,
  }));
  drawFaces(canvas(), faces, { width: current?.width, height: current?.height, mirrored: settings.mirror });
  video().classList.toggle("mirrored", settings.mirror);
}

function drawControls() {
  const chooser =
    current.devices?.length > 1 &&
    makeElement(
      "select",
      { "aria-label": t("camera.which"), onchange: (event) => turnOn(event.target.value) },
      ...current.devices.map(({ deviceId, label }, at) =>
        makeElement("option", {
          value: deviceId,
          text: label || t("camera.number", { number: at + 1 }),
          selected: deviceId === current.device,
        }),
      ),
    );
  const record = makeButton(
    current.recording ? "stop" : "record",
    t(current.recording ? "camera.record.stop" : "camera.record"),
    toggleRecording,
    {
      class: `button ${current.recording ? "recording" : "primary"}`,
      id: "camera-record",
    },
  );
  const focused = document.activeElement?.id;
  $("#camera-controls").replaceChildren(
    record,
    makeElement("span", { class: "time", id: "camera-clock" }),
    ...(chooser ? [chooser] : []),
    makeButton("mirror", t("camera.mirror"), () => changeSettings({ mirror: !settings.mirror }), {
      class: "button quiet",
      "aria-pressed": settings.mirror,
      id: "camera-mirror",
    }),
    makeButton("close", t("camera.off"), () => turnOff(), { class: "button quiet", id: "camera-off" }),
  );
  if (focused) document.getElementById(focused)?.focus();
}

function toggleRecording() {
  if (current.socket.readyState !== WebSocket.OPEN) return;
  current.recording = current.recording ? 0 : performance.now();
  current.socket.send(JSON.stringify({ type: "record", on: Boolean(current.recording) }));
  announce(t(current.recording ? "camera.recording" : "camera.recorded"));
  drawControls();
}

/** What was recorded, to be taken away; a new recording replaces it. */
function showRecords(rows) {
  records = rows;
  const card = $("#camera-records");
  card.hidden = false;
  const name = `camera-${new Date().toISOString().slice(0, 19).replaceAll(/[:T]/g, "-")}`;
  card.replaceChildren(
    makeElement("h2", { text: t("camera.records") }),
    makeElement("p", { class: "note", text: rows.length ? t("camera.rows", { count: rows.length }) : t("camera.norows") }),
    makeElement(
      "div",
      { class: "buttons", hidden: !rows.length },
      makeButton("save", "CSV", () => saveCsv(rows, name)),
      makeButton("save", "JSON", () => saveJson(rows, name)),
    ),
  );
  announce(t("camera.rows", { count: rows.length }));
  updateLayout();
}
