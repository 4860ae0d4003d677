// Everything that is asked of the service, at addresses that begin where the page lies. What fails is a ServiceError with the three parts of mien's errors.

import { parseHexColor, getLabelColor, server, settings } from "./store.js";
import { explainError, formatError, t } from "./words.js";

export class ServiceError extends Error {
  /** @param {ServiceErrorParts} parts @param {number} status of the answer */
  constructor({ name, problem, hint, code, parameters }, status = 0) {
    const said = { problem, hint, code, parameters };
    super(explainError(said).isTranslated ? formatError(said) : [name, problem, hint].filter(Boolean).join("; "));
    Object.assign(this, { name, ...said, status });
  }
}

const makeNoAnswerError = () =>
  new ServiceError({ name: t("error.server"), problem: t("error.silent"), hint: t("error.silent.hint") });

/** The error that an answer's text holds, or one that tells its status. */
function parseError(text, status) {
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
export const setTokenDialog = (ask) => (signIn = ask);

/** fetch, with errors as ServiceError; AbortError passes through. Where the service wants a token, the person is asked. */
async function sendRequest(path, options, isFirst = true) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : makeNoAnswerError();
  }
  if (response.ok) return response;
  if (response.status === 401 && isFirst && path !== "v1/login") {
    asking ??= signIn().finally(() => (asking = null));
    await asking;
    return sendRequest(path, options, false);
  }
  throw parseError(await response.text(), response.status);
}

const fetchJson = async (path, options) => (await sendRequest(path, options)).json();

/** {model: "base", face: 0} → "?model=base&face=0"; what is empty is left to the server, a list is named again and again. */
export function makeQuery(values) {
  const kept = Object.entries(values)
    .flatMap(([name, value]) => [value].flat().map((each) => [name, each]))
    .filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return kept.length ? `?${new URLSearchParams(kept)}` : "";
}

/** How faces are found and read. */
const getAnalysisParameters = () => ({
  model: settings.model,
  detector: settings.detector,
  detector_threshold: settings.threshold || null,
  people: settings.people,
});

/** How the server draws them into files: in the colors of the page. */
const getDrawingParameters = () => ({
  color: parseHexColor(settings.color).join(","),
  label_color:
    settings.coloring === "one" ? [] : Object.keys(server.colors).map((label) => `${label}:${getLabelColor(label)}`),
  line_width: settings.line || null,
  text_size: settings.text || null,
});

function makeForm(file) {
  const body = new FormData();
  body.append("file", file, file.name || "pasted.png");
  return { method: "POST", body };
}

export const fetchServerSettings = () => fetchJson("v1/settings");
export const fetchModels = () => fetchJson("v1/models");
export const fetchReports = () => fetchJson("v1/reports");

export const login = (token) =>
  sendRequest("v1/login", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ token }),
  });

export const logout = () => sendRequest("v1/logout", { method: "POST" });

export const analyzePicture = (file, signal) =>
  fetchJson(`v1/images${makeQuery({ ...getAnalysisParameters(), crops: true, view: 1 })}`, { ...makeForm(file), signal });

export const annotatePicture = async (file) =>
  (await sendRequest(`v1/images/annotated${makeQuery({ ...getAnalysisParameters(), ...getDrawingParameters() })}`, makeForm(file))).blob();

export const explainFace = async (file, face) =>
  (await sendRequest(`v1/images/saliency${makeQuery({ ...getAnalysisParameters(), face })}`, makeForm(file))).blob();

/** Whether the service would take another video; the error of sendVideo where not. */
export const checkCapacity = () => sendRequest("v1/videos/capacity");

/** Send a video: {done: Promise of its job, stop()}; `progress` is called with (bytes sent, bytes in all). */
export function sendVideo(file, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && progress(event.loaded, event.total);
    request.onload = () => {
      if (request.status < 200 || request.status > 299) return reject(parseError(request.responseText, request.status));
      resolve(JSON.parse(request.responseText).job);
    };
    request.onerror = () => reject(makeNoAnswerError());
    request.onabort = () => reject(new DOMException("", "AbortError"));
  });
  request.open("POST", `v1/videos${makeQuery({ ...getAnalysisParameters(), ...getDrawingParameters(), smoothing: settings.smoothing })}`);
  request.send(makeForm(file).body);
  return { done, stop: () => request.abort() };
}

export const fetchJobs = () => fetchJson("v1/jobs");
export const fetchJob = (id) => fetchJson(`v1/jobs/${encodeURIComponent(id)}`);
export const cancelJob = (id) => fetchJson(`v1/jobs/${encodeURIComponent(id)}/cancel`, { method: "POST" });
export const removeJob = (id) => sendRequest(`v1/jobs/${encodeURIComponent(id)}`, { method: "DELETE" });
export const fetchSummary = (id) => fetchJson(getResultAddress(id, "summary.json"));
export const fetchFrames = (id, fps) => fetchJson(`v1/jobs/${encodeURIComponent(id)}/frames${makeQuery({ fps })}`);
export const getResultAddress = (id, what, download = false) =>
  `v1/jobs/${encodeURIComponent(id)}/results/${encodeURIComponent(what)}${download ? "?download=1" : ""}`;

/** @param {Job} one */
export const isOver = (one) => ["done", "failed", "cancelled"].includes(one.state);

/**
 * Follow a job until it is over: `onUpdate(job)` for each change, `onLost()` where the connection cannot be had again. Returns
 * a function that ends it. The browser reconnects by itself.
 */
export function followJob(id, onUpdate, onLost) {
  const events = new EventSource(`v1/jobs/${encodeURIComponent(id)}/events`);
  events.addEventListener("job", (event) => {
    const one = JSON.parse(event.data);
    if (isOver(one)) events.close();
    onUpdate(one);
  });
  events.onerror = () => events.readyState === EventSource.CLOSED && onLost();
  return () => events.close();
}

/** The address of the camera's socket, which reads with the present settings. */
export function getCameraAddress() {
  const address = new URL(`v1/camera${makeQuery({ ...getAnalysisParameters(), smoothing: settings.smoothing })}`, document.baseURI);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}
