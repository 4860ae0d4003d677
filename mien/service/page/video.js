// The tab of videos: sending them, the list of jobs, and the way to what came of one.

import { $, announce, makeButton, makeIcon, makeElement } from "./dom.js";
import * as api from "./api.js";
import * as player from "./player.js";
import { onSettingsChange, server } from "./store.js";
import { formatBytes, formatDate, language, formatPercent, formatError, formatSpan, t } from "./words.js";

/** @type {Shared} */
let shared;
/**
 * Jobs by id as the service told them; what ends the listening to each; uploads that wait, are on their way or failed;
 * what was removed here.
 */
/** @type {Map<string, Job>} */
const jobs = new Map();
/** @type {Map<string, () => void>} */
const subscriptions = new Map();
/** @type {Upload[]} */
const uploads = [];
/** @type {Set<string>} */
const removed = new Set();
const MAX_SUBSCRIPTIONS = 2;
/** The service is asked again after so long whether it takes another video. */
const RETRY_MS = 5000;
let opened = "";
let last = "";

export function start(given) {
  shared = given;
  const chooser = $("#video-file");
  $("#video-drop").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    shared.openFiles([...chooser.files]); // a picture is read as one
    chooser.value = "";
  });
  $("#video-notify").addEventListener("click", async () => {
    await Notification.requestPermission();
    drawList();
  });
  addEventListener("beforeunload", (event) => uploads.some(({ error }) => !error) && event.preventDefault());
  onSettingsChange((changed) => {
    if (changed.has("language")) drawList();
  });
  player.start({ removeJob });
  refreshJobs();
}

/** Open the job that the address names, or the list. */
export async function enter(id) {
  const before = opened;
  [opened, last] = [id, id];
  $("#video-list").hidden = Boolean(id);
  $("#player").hidden = !id;
  player.close();
  if (!id) {
    await refreshJobs();
    if (before) $(`.job[data-key="${before}"] a`)?.focus(); // where the person came from
    return;
  }
  try {
    const job = await api.fetchJob(id);
    if (opened !== id) return;
    if (job.state === "done") await player.open(job);
    else shared.goTo("video");
  } catch (error) {
    shared.showNotice(error.status === 404 || error.status === 422 ? t("video.gone") : error.message);
    if (opened === id) shared.goTo("video");
  }
}

/** Where this tab was left: a video that is open stays open behind the other tabs. */
export const place = () => (last ? `video/${last}` : "video");

export function leave() {
  opened = "";
  player.close();
}

/** Ask for all jobs: after a reload, and when the list is shown. What came or went meanwhile the answer may not know. */
async function refreshJobs() {
  const before = [...jobs.keys()];
  try {
    const all = (await api.fetchJobs()).filter(({ id }) => !removed.has(id));
    const known = new Set(all.map(({ id }) => id));
    for (const id of before) if (!known.has(id)) forgetJob(id);
    const order = { running: 0, queued: 1 };
    all.sort((a, b) => (order[a.state] ?? 2) - (order[b.state] ?? 2) || a.created - b.created);
    for (const job of all) onJobUpdate(job, false);
  } catch (error) {
    shared.showNotice(error.message);
  }
  drawList();
}

function forgetJob(id) {
  subscriptions.get(id)?.();
  subscriptions.delete(id);
  jobs.delete(id);
}

/** A job as it is now; one that is not over is listened to, where not many are: a browser has few lines to one address. */
function onJobUpdate(job, isShown = true) {
  const before = jobs.get(job.id);
  if (before && api.isOver(before) && !api.isOver(job)) return; // a list that was on its way when the job ended
  jobs.set(job.id, job);
  if (api.isOver(job)) {
    if (subscriptions.delete(job.id)) refreshJobs(); // and the next one is listened to
  } else if (!subscriptions.has(job.id) && subscriptions.size < MAX_SUBSCRIPTIONS)
    subscriptions.set(
      job.id,
      api.followJob(job.id, onJobUpdate, () => onConnectionLost(job.id)),
    );
  if (before && before.state !== job.state && api.isOver(job)) announceEnd(job); // whoever says it first: its events, or the list
  if (isShown) drawList();
}

async function onConnectionLost(id) {
  subscriptions.delete(id);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  const job = jobs.get(id);
  if (job && !api.isOver(job)) refreshJobs();
}

/** Whether the person has the list before them, which says itself what became of a job. */
const isListed = () => $("#video-list").offsetParent !== null && !document.hidden;

/** Jobs that one notice speaks of, by how they ended; and whether it is still shown. */
const endedJobs = { done: { jobs: [], isShown: () => false }, failed: { jobs: [], isShown: () => false } };

/** A word when a job is over, also outside the page if the person wished so. */
function announceEnd(job) {
  const text = t({ done: "video.ready", failed: "video.broke", cancelled: "video.cancelled" }[job.state], {
    name: job.name,
  });
  if (job.state === "cancelled" || isListed()) return announce(text);
  const group = endedJobs[job.state];
  group.jobs = group.isShown() ? [...group.jobs, job] : [job];
  const count = group.jobs.length;
  const place = job.state === "done" && count === 1 ? `video/${job.id}` : "video";
  const open = () => shared.goTo(place);
  group.isShown = shared.showNotice(count === 1 ? text : t(`video.${job.state}.many`, { count }), {
    action: { text: t(count === 1 ? "video.open" : "video.show"), run: open },
    key: `jobs-${job.state}`,
    place,
  });
  if (document.hidden && "Notification" in window && Notification.permission === "granted") {
    const word = new Notification("mien", { body: text, icon: "page/icon.svg", tag: job.id });
    word.onclick = () => (window.focus(), open());
  }
}

/** Send videos, one after the other. */
export function openFiles(files) {
  if (opened) shared.goTo("video");
  for (const file of files) uploads.push({ file, sent: 0, state: "waiting", error: checkSize(file) });
  drawList();
  return sendNext();
}

function checkSize({ name, size }) {
  const { video_bytes: most } = server.limits;
  if (!most || size <= most) return null;
  return new api.ServiceError({
    name,
    problem: t("video.large", { size: formatBytes(size) }),
    hint: t("video.large.hint", { most: formatBytes(most) }),
  });
}

/** Send the video that has waited longest, and then the next; one at a time, so that each arrives as soon as it can. */
async function sendNext() {
  const upload = uploads.find(({ state, error }) => state === "waiting" && !error);
  if (!upload || uploads.some(({ state }) => state === "sending")) return;
  Object.assign(upload, { state: "sending", stop: () => removeUpload(upload) });
  drawList();
  try {
    await api.checkCapacity(); // asked first: a refusal in the middle of a large upload may get lost
    if (!uploads.includes(upload)) return await sendNext(); // removed meanwhile
    const sending = api.sendVideo(upload.file, (sent, all) => {
      upload.sent = sent / all;
      drawList();
    });
    upload.stop = sending.stop;
    const job = await sending.done;
    removeUpload(upload);
    announce(t("video.sent", { name: upload.file.name }));
    onJobUpdate(job);
  } catch (error) {
    if (error.code === "queue_full") {
      Object.assign(upload, { state: "waiting", sent: 0 }); // it stays in line here until there is room in that of the service
      setTimeout(sendNext, RETRY_MS);
      return drawList();
    }
    if (error.name === "AbortError") removeUpload(upload);
    else markFailed(upload, error);
  }
  drawList();
  await sendNext();
}

function removeUpload(upload) {
  if (uploads.includes(upload)) uploads.splice(uploads.indexOf(upload), 1);
}

/** It stays in the list with the reason; where the list is not seen, a notice says it too. */
function markFailed(upload, error) {
  Object.assign(upload, { error, state: "failed" });
  if (!isListed()) shared.showNotice(`${upload.file.name}: ${formatError(error)}`);
}

/** The list: uploads on their way first, then jobs, the newest first. Rows are kept so that a focused button stays. */
function drawList() {
  const { video_bytes: most, video_seconds: longest } = server.limits;
  $("#video-formats").textContent = [
    t("video.formats"),
    most && t("video.most", { size: formatBytes(most) }),
    longest && t("video.longest", { span: formatSpan(longest) }),
  ]
    .filter(Boolean)
    .join(" · ");
  $("#video-kept").textContent = server.retention_s ? t("video.kept", { span: formatSpan(server.retention_s) }) : "";
  const all = [...jobs.values()].sort((a, b) => b.created - a.created);
  const running = all.filter((job) => !api.isOver(job));
  const places = findPlaces(all);
  const badge = $("#tab-video .badge");
  badge.hidden = !running.length && !uploads.some(({ error }) => !error);
  $("#video-notify").hidden = !(running.length && "Notification" in window && Notification.permission === "default");
  $("#jobs-none").hidden = Boolean(all.length || uploads.length);
  $("#video-list").classList.toggle("some", Boolean(all.length || uploads.length));
  const list = $("#jobs");
  const rows = [...uploads.map(makeUploadRow).reverse(), ...all.map((job) => makeJobRow(job, places.get(job.id)))];
  const keys = new Set(rows.map(({ key }) => key));
  for (const item of [...list.children]) if (!keys.has(item.dataset.key)) item.remove();
  rows.forEach((row, at) => putRow(list, row, at));
}

/** Job → its place in the line of those that wait, from 1: the one that was sent first is read first. */
function findPlaces(all) {
  const waiting = all.filter(({ state }) => state === "queued");
  waiting.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
  return new Map(waiting.map(({ id }, index) => [id, index + 1]));
}

/**
 * Put a row at its place, making it anew only where its kind changed; otherwise its words and bar move.
 *
 * @param {HTMLElement} list
 * @param {{key: string, kind: string, name: string, text: string, share?: number | null, actions: () => any[], link?: string}} row
 * @param {number} at
 */
function putRow(list, { key, kind, name, text, share, actions, link }, at) {
  let item = /** @type {HTMLElement[]} */ ([...list.children]).find((each) => each.dataset.key === key);
  if (!item || item.dataset.kind !== kind) {
    const title = link
      ? makeElement("a", { class: "title", href: link, text: name })
      : makeElement("span", { class: "title", text: name });
    const fresh = makeElement(
      "li",
      { class: "job", "data-key": key, "data-kind": kind },
      makeIcon(ICONS[kind.split("-")[0]] ?? "video"),
      makeElement(
        "div",
        {},
        title,
        makeElement("span", { class: "text" }),
        makeElement("progress", { max: 1, "aria-label": t("video.progress", { name }) }),
      ),
      makeElement("div", { class: "buttons" }, ...actions()),
    );
    item?.replaceWith(fresh);
    item = /** @type {HTMLElement} */ (fresh);
  }
  if (list.children[at] !== item) list.insertBefore(/** @type {HTMLElement} */ (item), list.children[at] ?? null);
  $(".text", item).textContent = text;
  const bar = $("progress", item);
  bar.hidden = share === undefined;
  if (share === null) bar.removeAttribute("value");
  else if (share !== undefined) bar.value = share;
}

const ICONS = { failed: "noface", queued: "clock", waiting: "clock" };

let uploadCount = 0;

function makeUploadRow(upload) {
  upload.key ??= `upload-${++uploadCount}`;
  const { file, sent, error, key } = upload;
  const state = error ? "failed" : upload.state;
  const base = { key, kind: `${state}-upload-${t("cancel")}`, name: file.name };
  const leave = () => {
    if (state === "sending") upload.stop();
    else removeUpload(upload);
    drawList();
  };
  const again = () => {
    Object.assign(upload, { error: null, state: "waiting", sent: 0 });
    sendNext();
    drawList();
  };
  const name = { "aria-label": t("video.cancel.name", { name: file.name }) };
  if (state === "failed")
    return {
      ...base,
      text: `${t("video.failed")}: ${formatError(error)}`,
      actions: () => [
        !checkSize(file) && makeButton("", t("again"), again, { "aria-label": t("again.name", { name: file.name }) }),
        makeButton("bin", t("video.remove"), leave, {
          class: "button quiet",
          "aria-label": t("video.remove.name", { name: file.name }),
        }),
      ],
    };
  const actions = () => [makeButton("close", t("cancel"), leave, name)];
  if (state === "waiting") return { ...base, text: t("video.unsent", { size: formatBytes(file.size) }), actions };
  const text =
    sent < 1 ? t("video.sending", { share: formatPercent(sent), size: formatBytes(file.size) }) : t("video.checking");
  return { ...base, text, share: sent < 1 ? sent : null, actions };
}

/** What was odd about a video; the service says it in English. */
const formatWarning = (text) => (language() === "en" ? `${t("video.odd")}: ${text}` : t("video.odd"));

function makeJobRow(job, place) {
  const kind = `${job.state}-${t("cancel")}`; // a row is made anew when the language changes
  const base = { key: job.id, kind, name: job.name };
  const makeRemoveButton = () =>
    makeButton("bin", t("video.remove"), () => removeJob(job), {
      class: "button quiet",
      "aria-label": t("video.remove.name", { name: job.name }),
    });
  if (job.state === "queued") return { ...base, text: t("video.queued", { place }), actions: () => [makeCancelButton(job)] };
  if (job.state === "running") {
    const left = job.seconds_left > 0 ? t("video.left", { span: formatSpan(job.seconds_left) }) : "";
    const text = [t("video.running"), job.progress === null ? "" : formatPercent(job.progress), left]
      .filter(Boolean)
      .join(" · ");
    return { ...base, text, share: job.progress, actions: () => [makeCancelButton(job)] };
  }
  if (job.state === "done") {
    const text = [
      t("video.done"),
      formatDate(job.ended ?? job.created),
      job.expires ? t("video.until", { date: formatDate(job.expires) }) : "",
      job.text === "done" ? "" : formatWarning(job.text),
    ]
      .filter(Boolean)
      .join(" · ");
    const open = () =>
      makeButton("play", t("video.open"), () => shared.goTo(`video/${job.id}`), {
        class: "button primary",
        "aria-label": t("video.open.name", { name: job.name }),
      });
    return { ...base, text, link: `#video/${job.id}`, actions: () => [open(), makeRemoveButton()] };
  }
  if (job.state === "failed") {
    const why = job.error ? formatError(job.error) : job.text;
    return { ...base, text: `${t("video.failed")}: ${why}`, actions: () => [makeRemoveButton()] };
  }
  return { ...base, text: `${t("video.stopped")} · ${formatDate(job.ended ?? job.created)}`, actions: () => [makeRemoveButton()] };
}

function makeCancelButton(job) {
  return makeButton(
    "close",
    t("cancel"),
    async (event) => {
      event.currentTarget.disabled = true;
      try {
        onJobUpdate(await api.cancelJob(job.id));
      } catch (error) {
        shared.showNotice(error.message);
        refreshJobs();
      }
    },
    { "aria-label": t("video.cancel.name", { name: job.name }) },
  );
}

/** Remove a job and its files, after a second word from the person. */
async function removeJob(job) {
  if (!confirm(t("video.remove.sure", { name: job.name }))) return;
  try {
    await api.removeJob(job.id);
  } catch (error) {
    if (error.status !== 404) return shared.showNotice(error.message);
  }
  removed.add(job.id);
  forgetJob(job.id);
  if (last === job.id) last = "";
  announce(t("video.removed", { name: job.name }));
  if (opened === job.id) shared.goTo("video");
  drawList();
}
