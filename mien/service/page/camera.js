// The tab of the camera: its pictures go to the service one at a time, boxes and bars come back.

import { $, announce, button, make } from "./dom.js";
import * as api from "./api.js";
import { bars } from "./chart.js";
import { drawFaces } from "./overlay.js";
import { saveCsv, saveJson } from "./records.js";
import { change, onChange, server, settings } from "./store.js";
import { clock, labelName, nameOf, number, percent, percents, reasonOf, shownOf, t } from "./words.js";

/** Pictures are sent at most so wide; faces are found at 640 pixels anyway. */
const WIDEST = 640;
/** An answer that takes longer is given up, and the next picture is sent. */
const PATIENCE_MS = 4000;
/** The records of a recording that is ended by turning the camera off are waited for so long. */
const RECORDS_MS = 120_000;
/** Codes with which the service ends a connection for good (RFC 6455): it would say the same again. */
const REFUSED = [1003, 1008, 1009];

/** What is on: null, or {stream, socket, waiting, times, …}. */
let now = null;
/** How often a camera was turned on or off: who waited for the browser's answer meanwhile does nothing with it. */
let asked = 0;
let records = null;
let showBars = null;

const video = () => $("#camera-work video");
const canvas = () => $("#camera-work canvas");
const say = (text) => ($("#camera-status").textContent = text);

export function start() {
  $("#camera-on").addEventListener("click", () => turnOn());
  showBars = bars($("#camera-bars"));
  new ResizeObserver(draw).observe(canvas());
  onChange(() => {
    if (!now) return; // what changes how faces are read is on another tab, and this one is off then
    controls();
    draw();
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
  const wish = { width: { ideal: 1280 }, frameRate: { ideal: 30 } };
  let stream;
  const mine = ++asked;
  $("#camera-error").textContent = "";
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      video: device ? { ...wish, deviceId: { exact: device } } : { ...wish, facingMode: "user" },
    });
  } catch (error) {
    if (mine !== asked) return;
    const why = { NotAllowedError: "camera.denied", NotFoundError: "camera.missing", NotReadableError: "camera.busy" }[
      error.name
    ];
    const text = why ? t(why) : t("camera.other", { error: error.message });
    if (now) say(text);
    else $("#camera-error").textContent = text;
    return;
  }
  if (mine !== asked) {
    for (const track of stream.getTracks()) track.stop(); // it was allowed too late
    return;
  }
  if (now) for (const track of now.stream.getTracks()) track.stop();
  else {
    now = { socket: null, waiting: 0, times: [], faces: [], device, began: performance.now(), recording: 0 };
    connect();
  }
  Object.assign(now, { stream, device });
  stream.getVideoTracks()[0].onended = () => turnOff(t("camera.ended"));
  const devices = await navigator.mediaDevices.enumerateDevices();
  if (mine !== asked) return;
  now.devices = devices.filter(({ kind }) => kind === "videoinput");
  $("#camera-start").hidden = true;
  $("#camera-work").hidden = false;
  $("#camera-records").hidden = !records;
  video().srcObject = stream;
  await video().play();
  if (mine !== asked) return;
  $("#camera-work .frame").style.setProperty("--ratio", video().videoWidth / video().videoHeight);
  $("#camera-work .frame").style.setProperty("--natural", `${video().videoWidth}px`);
  controls();
  announce(t("camera.running"));
  loop(now);
}

function turnOff(why = "") {
  asked += 1;
  if (!now) return;
  const { stream, socket, recording } = now;
  const finish = () => socket?.close();
  if (recording && socket?.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify({ type: "record", on: false })); // the records still come, and end the connection
    setTimeout(finish, RECORDS_MS);
  } else finish();
  for (const track of stream.getTracks()) track.stop();
  now = null;
  video().srcObject = null;
  $("#camera-error").textContent = why;
  layOut();
}

/** The stage is there while the camera is on; what was recorded stays below the invitation. */
function layOut() {
  const on = Boolean(now);
  $("#camera-start").hidden = on;
  $("#camera-work").hidden = !on && !records;
  $("#camera-work").classList.toggle("off", !on);
}

/** A socket, which reads with the present settings. */
function connect() {
  const mine = now;
  const socket = new WebSocket(api.cameraAddress());
  socket.binaryType = "arraybuffer";
  Object.assign(mine, { socket, waiting: 0 });
  socket.onopen = () => say(t("camera.running"));
  socket.onmessage = ({ data }) => heard(mine, socket, JSON.parse(data));
  socket.onclose = ({ code, reason }) => {
    if (now !== mine || mine.socket !== socket) return;
    if (REFUSED.includes(code)) return turnOff(mine.why ?? (reason || t("camera.broke")));
    say(t(mine.recording ? "camera.lost.recording" : "camera.lost"));
    mine.recording = 0; // its rows were on the other side
    controls();
    setTimeout(() => again(mine, socket), 2000);
  };
}

/** A browser does not say why a connection was refused; a call of another kind asks for the token where it is missing. */
async function again(mine, socket) {
  await api.serverSettings().catch(() => null);
  if (now === mine && mine.socket === socket) connect();
}

function heard(mine, socket, message) {
  if (message.type === "records") {
    keep(message.records);
    if (now !== mine) socket.close();
    if (message.full && now === mine) {
      now.recording = 0;
      say(t("camera.full"));
      controls();
    }
    return;
  }
  if (message.error) {
    mine.why = reasonOf(message.error);
    if (now === mine) say(mine.why);
    mine.waiting = 0;
    return;
  }
  if (now !== mine || mine.socket !== socket) return;
  mine.waiting = 0;
  mine.send();
  const faces = message.faces.map((face) => ({ ...face, ...shownOf(face) }));
  Object.assign(mine, { faces, width: message.width, height: message.height });
  mine.times.push(performance.now());
  while (mine.times.length > 2 && mine.times.at(-1) - mine.times[0] > 2000) mine.times.shift();
  rate(message.seconds);
  draw();
  tell();
}

/**
 * Send a picture whenever there is one that was not sent and the last was answered: at the camera's pace where the
 * service keeps up, else as soon as an answer comes.
 */
function loop(mine) {
  const { stream } = mine;
  const shot = document.createElement("canvas");
  const pen = shot.getContext("2d", { alpha: false });
  let fresh = false;
  const gone = () => now !== mine || mine.stream !== stream;
  const wait = () => {
    if (video().requestVideoFrameCallback) video().requestVideoFrameCallback(came);
    else requestAnimationFrame(came);
  };
  const came = () => {
    if (gone()) return;
    fresh = true;
    mine.send();
    wait();
  };
  mine.send = async () => {
    const late = performance.now() - mine.waiting > PATIENCE_MS;
    if (gone() || !fresh || mine.socket.readyState !== WebSocket.OPEN || (mine.waiting && !late)) return;
    fresh = false;
    mine.waiting = performance.now();
    const scale = Math.min(1, WIDEST / video().videoWidth);
    const [width, height] = [Math.round(video().videoWidth * scale), Math.round(video().videoHeight * scale)];
    if (shot.width !== width || shot.height !== height) Object.assign(shot, { width, height });
    pen.drawImage(video(), 0, 0, width, height);
    const head = new DataView(new ArrayBuffer(8));
    head.setFloat64(0, (performance.now() - mine.began) / 1000, true);
    const jpeg = await new Promise((resolve) => shot.toBlob(resolve, "image/jpeg", 0.85));
    if (mine.socket.readyState === WebSocket.OPEN && jpeg) mine.socket.send(new Blob([head.buffer, jpeg]));
    else mine.waiting = 0;
  };
  wait();
}

function rate(seconds) {
  const { times } = now;
  const fps = times.length > 2 ? ((times.length - 1) * 1000) / (times.at(-1) - times[0]) : 0;
  $("#camera-rate").textContent = fps ? t("camera.rate", { fps: number(fps), ms: number(seconds * 1000) }) : "";
  $("#camera-rate").dataset.fps = fps.toFixed(1);
}

/** The largest face's bars. */
function tell() {
  const size = ({ box: [x1, y1, x2, y2] }) => (x2 - x1) * (y2 - y1);
  const face = [...now.faces].sort((a, b) => size(b) - size(a))[0];
  showBars(face?.probabilities ?? null, face ? Object.keys(face.probabilities) : server.labels);
  const [share, from] = face?.unsure && !face.noFace ? percents(face.confidence, face.unsure_below) : [];
  $("#camera-doubt").textContent = share ? t("picture.unsure", { label: labelName(face.label), share, from }) : "";
  $("#camera-who").textContent = face ? `${nameOf(face)} ${percent(face.probability)}` : t("camera.nobody");
  if (now.recording) $("#camera-clock").textContent = clock((performance.now() - now.recording) / 1000);
}

function draw() {
  const faces = (now?.faces ?? []).map((face, _, all) => ({
    ...face,
    number: all.length > 1 ? (face.track ?? 0) + 1 : undefined,
  }));
  drawFaces(canvas(), faces, { width: now?.width, height: now?.height, mirrored: settings.mirror });
  video().classList.toggle("mirrored", settings.mirror);
}

function controls() {
  const chooser =
    now.devices?.length > 1 &&
    make(
      "select",
      { "aria-label": t("camera.which"), onchange: (event) => turnOn(event.target.value) },
      ...now.devices.map(({ deviceId, label }, at) =>
        make("option", {
          value: deviceId,
          text: label || t("camera.number", { number: at + 1 }),
          selected: deviceId === now.device,
        }),
      ),
    );
  const record = button(
    now.recording ? "stop" : "record",
    t(now.recording ? "camera.record.stop" : "camera.record"),
    toggleRecording,
    {
      class: `button ${now.recording ? "recording" : "primary"}`,
      id: "camera-record",
    },
  );
  const focused = document.activeElement?.id;
  $("#camera-controls").replaceChildren(
    record,
    make("span", { class: "time", id: "camera-clock" }),
    ...(chooser ? [chooser] : []),
    button("mirror", t("camera.mirror"), () => change({ mirror: !settings.mirror }), {
      class: "button quiet",
      "aria-pressed": settings.mirror,
      id: "camera-mirror",
    }),
    button("close", t("camera.off"), () => turnOff(), { class: "button quiet", id: "camera-off" }),
  );
  if (focused) document.getElementById(focused)?.focus();
}

function toggleRecording() {
  if (now.socket.readyState !== WebSocket.OPEN) return;
  now.recording = now.recording ? 0 : performance.now();
  now.socket.send(JSON.stringify({ type: "record", on: Boolean(now.recording) }));
  announce(t(now.recording ? "camera.recording" : "camera.recorded"));
  controls();
}

/** What was recorded, to be taken away; a new recording replaces it. */
function keep(rows) {
  records = rows;
  const card = $("#camera-records");
  card.hidden = false;
  const name = `camera-${new Date().toISOString().slice(0, 19).replaceAll(/[:T]/g, "-")}`;
  card.replaceChildren(
    make("h2", { text: t("camera.records") }),
    make("p", { class: "note", text: rows.length ? t("camera.rows", { count: rows.length }) : t("camera.norows") }),
    make(
      "div",
      { class: "buttons", hidden: !rows.length },
      button("save", "CSV", () => saveCsv(rows, name)),
      button("save", "JSON", () => saveJson(rows, name)),
    ),
  );
  announce(t("camera.rows", { count: rows.length }));
  layOut();
}
