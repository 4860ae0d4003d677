// The tab of videos: sending them, the list of jobs, and the way to what came of one.

import { $, announce, button, icon, make } from "./dom.js";
import * as api from "./api.js";
import * as player from "./player.js";
import { onChange, server } from "./store.js";
import { bytes, date, language, percent, reasonOf, span, t } from "./words.js";

let shared;
/**
 * Jobs by id as the service told them; what ends the listening to each; uploads that wait, are on their way or failed;
 * what was removed here.
 */
const jobs = new Map();
const listening = new Map();
const uploads = [];
const removed = new Set();
const MOST_HEARD = 2;
/** The service is asked again after so long whether it takes another video. */
const ROOM_MS = 5000;
let opened = "";
let last = "";

export function start(given) {
  shared = given;
  const chooser = $("#video-file");
  $("#video-drop").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    shared.take([...chooser.files]); // a picture is read as one
    chooser.value = "";
  });
  $("#video-notify").addEventListener("click", async () => {
    await Notification.requestPermission();
    draw();
  });
  addEventListener("beforeunload", (event) => uploads.some(({ error }) => !error) && event.preventDefault());
  onChange((changed) => {
    if (changed.has("language")) draw();
  });
  player.start({ remove });
  refresh();
}

/** Open the job that the address names, or the list. */
export async function enter(id) {
  const before = opened;
  [opened, last] = [id, id];
  $("#video-list").hidden = Boolean(id);
  $("#player").hidden = !id;
  player.close();
  if (!id) {
    await refresh();
    if (before) $(`.job[data-key="${before}"] a`)?.focus(); // where the person came from
    return;
  }
  try {
    const job = await api.job(id);
    if (opened !== id) return;
    if (job.state === "done") await player.open(job);
    else shared.go("video");
  } catch (error) {
    shared.notice(error.status === 404 || error.status === 422 ? t("video.gone") : error.message);
    if (opened === id) shared.go("video");
  }
}

/** Where this tab was left: a video that is open stays open behind the other tabs. */
export const place = () => (last ? `video/${last}` : "video");

export function leave() {
  opened = "";
  player.close();
}

/** Ask for all jobs: after a reload, and when the list is shown. What came or went meanwhile the answer may not know. */
async function refresh() {
  const before = [...jobs.keys()];
  try {
    const all = (await api.jobs()).filter(({ id }) => !removed.has(id));
    const known = new Set(all.map(({ id }) => id));
    for (const id of before) if (!known.has(id)) forget(id);
    const order = { running: 0, queued: 1 };
    all.sort((a, b) => (order[a.state] ?? 2) - (order[b.state] ?? 2) || a.created - b.created);
    for (const job of all) heard(job, false);
  } catch (error) {
    shared.notice(error.message);
  }
  draw();
}

function forget(id) {
  listening.get(id)?.();
  listening.delete(id);
  jobs.delete(id);
}

/** A job as it is now; one that is not over is listened to, where not many are: a browser has few lines to one address. */
function heard(job, isShown = true) {
  const before = jobs.get(job.id);
  if (before && api.isOver(before) && !api.isOver(job)) return; // a list that was on its way when the job ended
  jobs.set(job.id, job);
  if (api.isOver(job)) {
    if (listening.delete(job.id)) refresh(); // and the next one is listened to
  } else if (!listening.has(job.id) && listening.size < MOST_HEARD)
    listening.set(
      job.id,
      api.watchJob(job.id, heard, () => lost(job.id)),
    );
  if (before && before.state !== job.state && api.isOver(job)) tell(job); // whoever says it first: its events, or the list
  if (isShown) draw();
}

async function lost(id) {
  listening.delete(id);
  await new Promise((resolve) => setTimeout(resolve, 3000));
  if (jobs.has(id) && !api.isOver(jobs.get(id))) refresh();
}

/** Whether the person has the list before them, which says itself what became of a job. */
const isListed = () => $("#video-list").offsetParent !== null && !document.hidden;

/** Jobs that one notice speaks of, by how they ended; and whether it is still shown. */
const told = { done: { jobs: [], isShown: () => false }, failed: { jobs: [], isShown: () => false } };

/** A word when a job is over, also outside the page if the person wished so. */
function tell(job) {
  const text = t({ done: "video.ready", failed: "video.broke", cancelled: "video.cancelled" }[job.state], {
    name: job.name,
  });
  if (job.state === "cancelled" || isListed()) return announce(text);
  const news = told[job.state];
  news.jobs = news.isShown() ? [...news.jobs, job] : [job];
  const count = news.jobs.length;
  const place = job.state === "done" && count === 1 ? `video/${job.id}` : "video";
  const open = () => shared.go(place);
  news.isShown = shared.notice(count === 1 ? text : t(`video.${job.state}.many`, { count }), {
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
export function take(files) {
  if (opened) shared.go("video");
  for (const file of files) uploads.push({ file, sent: 0, state: "waiting", error: tooLarge(file) });
  draw();
  return sendNext();
}

function tooLarge({ name, size }) {
  const { video_bytes: most } = server.limits;
  if (!most || size <= most) return null;
  return new api.ServiceError({
    name,
    problem: t("video.large", { size: bytes(size) }),
    hint: t("video.large.hint", { most: bytes(most) }),
  });
}

/** Send the video that has waited longest, and then the next; one at a time, so that each arrives as soon as it can. */
async function sendNext() {
  const upload = uploads.find(({ state, error }) => state === "waiting" && !error);
  if (!upload || uploads.some(({ state }) => state === "sending")) return;
  upload.state = "sending";
  const sending = api.sendVideo(upload.file, (sent, all) => {
    upload.sent = sent / all;
    draw();
  });
  upload.stop = sending.stop;
  draw();
  try {
    const job = await sending.done;
    drop(upload);
    announce(t("video.sent", { name: upload.file.name }));
    heard(job);
  } catch (error) {
    if (error.code === "queue_full") {
      Object.assign(upload, { state: "waiting", sent: 0 }); // it stays in line here until there is room in that of the service
      setTimeout(sendNext, ROOM_MS);
      return draw();
    }
    if (error.name === "AbortError") drop(upload);
    else failed(upload, error);
  }
  draw();
  await sendNext();
}

function drop(upload) {
  if (uploads.includes(upload)) uploads.splice(uploads.indexOf(upload), 1);
}

/** It stays in the list with the reason; where the list is not seen, a notice says it too. */
function failed(upload, error) {
  Object.assign(upload, { error, state: "failed" });
  if (!isListed()) shared.notice(`${upload.file.name}: ${reasonOf(error)}`);
}

/** The list: uploads on their way first, then jobs, the newest first. Rows are kept so that a focused button stays. */
function draw() {
  const { video_bytes: most, video_seconds: longest } = server.limits;
  $("#video-formats").textContent = [
    t("video.formats"),
    most && t("video.most", { size: bytes(most) }),
    longest && t("video.longest", { span: span(longest) }),
  ]
    .filter(Boolean)
    .join(" · ");
  $("#video-kept").textContent = server.retention_s ? t("video.kept", { span: span(server.retention_s) }) : "";
  const all = [...jobs.values()].sort((a, b) => b.created - a.created);
  const running = all.filter((job) => !api.isOver(job));
  const places = placesOf(all);
  const badge = $("#tab-video .badge");
  badge.hidden = !running.length && !uploads.some(({ error }) => !error);
  $("#video-notify").hidden = !(running.length && "Notification" in window && Notification.permission === "default");
  $("#jobs-none").hidden = Boolean(all.length || uploads.length);
  $("#video-list").classList.toggle("some", Boolean(all.length || uploads.length));
  const list = $("#jobs");
  const rows = [...uploads.map(uploadRow).reverse(), ...all.map((job) => jobRow(job, places.get(job.id)))];
  const keys = new Set(rows.map(({ key }) => key));
  for (const item of [...list.children]) if (!keys.has(item.dataset.key)) item.remove();
  rows.forEach((row, at) => putRow(list, row, at));
}

/** Job → its place in the line of those that wait, from 1: the one that was sent first is read first. */
function placesOf(all) {
  const waiting = all.filter(({ state }) => state === "queued");
  waiting.sort((a, b) => a.created - b.created || (a.id < b.id ? -1 : 1));
  return new Map(waiting.map(({ id }, index) => [id, index + 1]));
}

/** Put a row at its place, making it anew only where its kind changed; otherwise its words and bar move. */
function putRow(list, { key, kind, name, text, share, actions, opens }, at) {
  let item = [...list.children].find((each) => each.dataset.key === key);
  if (!item || item.dataset.kind !== kind) {
    const title = opens
      ? make("a", { class: "title", href: opens, text: name })
      : make("span", { class: "title", text: name });
    const fresh = make(
      "li",
      { class: "job", "data-key": key, "data-kind": kind },
      icon(ICONS[kind.split("-")[0]] ?? "video"),
      make(
        "div",
        {},
        title,
        make("span", { class: "text" }),
        make("progress", { max: 1, "aria-label": t("video.progress", { name }) }),
      ),
      make("div", { class: "buttons" }, ...actions()),
    );
    if (item) item.replaceWith(fresh);
    item = fresh;
  }
  if (list.children[at] !== item) list.insertBefore(item, list.children[at] ?? null);
  $(".text", item).textContent = text;
  const bar = $("progress", item);
  bar.hidden = share === undefined;
  if (share === null) bar.removeAttribute("value");
  else if (share !== undefined) bar.value = share;
}

const ICONS = { failed: "noface", queued: "clock", waiting: "clock" };

let uploadCount = 0;

function uploadRow(upload) {
  upload.key ??= `upload-${++uploadCount}`;
  const { file, sent, error, key } = upload;
  const state = error ? "failed" : upload.state;
  const base = { key, kind: `${state}-upload-${t("cancel")}`, name: file.name };
  const leave = () => {
    if (state === "sending") upload.stop();
    else drop(upload);
    draw();
  };
  const again = () => {
    Object.assign(upload, { error: null, state: "waiting", sent: 0 });
    sendNext();
    draw();
  };
  const name = { "aria-label": t("video.cancel.name", { name: file.name }) };
  if (state === "failed")
    return {
      ...base,
      text: `${t("video.failed")}: ${reasonOf(error)}`,
      actions: () => [
        !tooLarge(file) && button("", t("again"), again, { "aria-label": t("again.name", { name: file.name }) }),
        button("bin", t("video.remove"), leave, {
          class: "button quiet",
          "aria-label": t("video.remove.name", { name: file.name }),
        }),
      ],
    };
  const actions = () => [button("close", t("cancel"), leave, name)];
  if (state === "waiting") return { ...base, text: t("video.unsent", { size: bytes(file.size) }), actions };
  const text =
    sent < 1 ? t("video.sending", { share: percent(sent), size: bytes(file.size) }) : t("video.checking");
  return { ...base, text, share: sent < 1 ? sent : null, actions };
}

/** What was odd about a video; the service says it in English. */
const odd = (text) => (language() === "en" ? `${t("video.odd")}: ${text}` : t("video.odd"));

function jobRow(job, place) {
  const kind = `${job.state}-${t("cancel")}`; // a row is made anew when the language changes
  const base = { key: job.id, kind, name: job.name };
  const bin = () =>
    button("bin", t("video.remove"), () => remove(job), {
      class: "button quiet",
      "aria-label": t("video.remove.name", { name: job.name }),
    });
  if (job.state === "queued") return { ...base, text: t("video.queued", { place }), actions: () => [stopper(job)] };
  if (job.state === "running") {
    const left = job.seconds_left > 0 ? t("video.left", { span: span(job.seconds_left) }) : "";
    const text = [t("video.running"), job.progress === null ? "" : percent(job.progress), left]
      .filter(Boolean)
      .join(" · ");
    return { ...base, text, share: job.progress, actions: () => [stopper(job)] };
  }
  if (job.state === "done") {
    const text = [
      t("video.done"),
      date(job.ended ?? job.created),
      job.expires ? t("video.until", { date: date(job.expires) }) : "",
      job.text === "done" ? "" : odd(job.text),
    ]
      .filter(Boolean)
      .join(" · ");
    const open = () =>
      button("play", t("video.open"), () => shared.go(`video/${job.id}`), {
        class: "button primary",
        "aria-label": t("video.open.name", { name: job.name }),
      });
    return { ...base, text, opens: `#video/${job.id}`, actions: () => [open(), bin()] };
  }
  if (job.state === "failed") {
    const why = job.error ? reasonOf(job.error) : job.text;
    return { ...base, text: `${t("video.failed")}: ${why}`, actions: () => [bin()] };
  }
  return { ...base, text: `${t("video.stopped")} · ${date(job.ended ?? job.created)}`, actions: () => [bin()] };
}

function stopper(job) {
  return button(
    "close",
    t("cancel"),
    async (event) => {
      event.currentTarget.disabled = true;
      try {
        heard(await api.cancelJob(job.id));
      } catch (error) {
        shared.notice(error.message);
        refresh();
      }
    },
    { "aria-label": t("video.cancel.name", { name: job.name }) },
  );
}

/** Remove a job and its files, after a second word from the person. */
async function remove(job) {
  if (!confirm(t("video.remove.sure", { name: job.name }))) return;
  try {
    await api.removeJob(job.id);
  } catch (error) {
    if (error.status !== 404) return shared.notice(error.message);
  }
  removed.add(job.id);
  forget(job.id);
  if (last === job.id) last = "";
  announce(t("video.removed", { name: job.name }));
  if (opened === job.id) shared.go("video");
  draw();
}
