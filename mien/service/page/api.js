// Everything that is asked of the service, at addresses that begin where the page lies. What fails is a ServiceError with the three parts of mien's errors.

import { channels, colorOfLabel, server, settings } from "./store.js";
import { explained, reasonOf, t } from "./words.js";

export class ServiceError extends Error {
  constructor({ name, problem, hint, code, parameters }, status = 0) {
    const said = { problem, hint, code, parameters };
    super(explained(said).isTranslated ? reasonOf(said) : [name, problem, hint].filter(Boolean).join("; "));
    Object.assign(this, { name, ...said, status });
  }
}

const silent = () =>
  new ServiceError({ name: t("error.server"), problem: t("error.silent"), hint: t("error.silent.hint") });

/** The error that an answer's text holds, or one that tells its status. */
function errorOf(text, status) {
  try {
    const { error } = JSON.parse(text);
    if (error?.problem) return new ServiceError(error, status);
  } catch {
    // not JSON: a proxy between us, perhaps
  }
  return new ServiceError(
    { name: t("error.server"), problem: t("error.status", { status }), hint: t("error.status.hint") },
    status,
  );
}

/** How a person is asked for the token, and who is being asked now: once for all calls that wait. */
let signIn = null;
let asking = null;
export const askForTokenBy = (ask) => (signIn = ask);

/** fetch, with errors as ServiceError; AbortError passes through. Where the service wants a token, the person is asked. */
async function answer(path, options, isFirst = true) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : silent();
  }
  if (response.ok) return response;
  if (response.status === 401 && isFirst && path !== "v1/login") {
    asking ??= signIn().finally(() => (asking = null));
    await asking;
    return answer(path, options, false);
  }
  throw errorOf(await response.text(), response.status);
}

const json = async (path, options) => (await answer(path, options)).json();

/** {model: "base", face: 0} → "?model=base&face=0"; what is empty is left to the server, a list is named again and again. */
export function query(values) {
  const kept = Object.entries(values)
    .flatMap(([name, value]) => [value].flat().map((each) => [name, each]))
    .filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

/** How faces are found and read. */
const reading = () => ({
  model: settings.model,
  detector: settings.detector,
  detector_threshold: settings.threshold || null,
  people: settings.people,
});

/** How the server draws them into files: in the colors of the page. */
const drawing = () => ({
  color: channels(settings.color).join(","),
  label_color:
    settings.coloring === "one" ? [] : Object.keys(server.colors).map((label) => `${label}:${colorOfLabel(label)}`),
  line_width: settings.line || null,
  text_size: settings.text || null,
});

function form(file) {
  const body = new FormData();
  body.append("file", file, file.name || "pasted.png");
  return { method: "POST", body };
}

export const serverSettings = () => json("v1/settings");
export const models = () => json("v1/models");
export const reports = () => json("v1/reports");

export const login = (token) =>
  answer("v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });

export const logout = () => answer("v1/logout", { method: "POST" });

export const readPicture = (file, signal) =>
  json(`v1/images${query({ ...reading(), crops: true, view: 1 })}`, { ...form(file), signal });

export const annotated = async (file) =>
  (await answer(`v1/images/annotated${query({ ...reading(), ...drawing() })}`, form(file))).blob();

export const saliency = async (file, face) =>
  (await answer(`v1/images/saliency${query({ ...reading(), face })}`, form(file))).blob();

/** Send a video: {done: Promise of its job, stop()}; `progress` hears (bytes sent, bytes in all). */
export function sendVideo(file, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded, event.total);
    request.onload = () => {
      if (request.status < 200 || request.status > 299) return reject(errorOf(request.responseText, request.status));
      resolve(JSON.parse(request.responseText).job);
    };
    request.onerror = () => reject(silent());
    request.onabort = () => reject(new DOMException("", "AbortError"));
  });
  request.open("POST", `v1/videos${query({ ...reading(), ...drawing(), smoothing: settings.smoothing })}`);
  request.send(form(file).body);
  return { done, stop: () => request.abort() };
}

export const jobs = () => json("v1/jobs");
export const job = (id) => json(`v1/jobs/${encodeURIComponent(id)}`);
export const cancelJob = (id) => json(`v1/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" });
export const removeJob = (id) => answer(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
export const summary = (id) => json(resultAddress(id, "summary.json"));
export const frames = (id, fps) => json(`v1/jobs/${encodeURIComponent(id)}/frames${query({ fps })}`);
export const resultAddress = (id, what, download = false) =>
  `v1/jobs/${encodeURIComponent(id)}/results/${encodeURIComponent(what)}${download ? "?download=1" : ""}`;

export const isOver = (one) => ["done", "failed", "cancelled"].includes(one.state);

/** Hear of a job's changes until it is over; returns what ends the listening. The browser reconnects by itself. */
export function watchJob(id, heard, lost) {
  const events = new EventSource(`v1/jobs/${encodeURIComponent(id)}/events`);
  events.addEventListener("job", (event) => {
    const one = JSON.parse(event.data);
    if (isOver(one)) events.close();
    heard(one);
  });
  events.onerror = () => events.readyState === EventSource.CLOSED && lost();
  return () => events.close();
}

/** The address of the camera's socket, which reads with the present settings. */
export function cameraAddress() {
  const address = new URL(`v1/camera${query({ ...reading(), smoothing: settings.smoothing })}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}
