// The page as a whole: tabs and addresses, the server's facts, files that are dropped, notices.

import { $, $$, makeIcon, makeElement } from "./dom.js";
import * as api from "./api.js";
import * as camera from "./camera.js";
import * as library from "./library.js";
import * as picture from "./picture.js";
import * as form from "./settings.js";
import * as video from "./video.js";
import { changeSettings, onSettingsChange, server, settings } from "./store.js";
import { language, t, translate } from "./words.js";

/** In the order of the tabs. A tab may have enter(rest of the address), leave(), and place(): the address it was left at. */
const TABS = { picture, video, camera, library, settings: form };
let current = "";
let shown = ""; // the address that was shown last

/** "#video/ab12" → ["video", "ab12"]. */
function parseRoute() {
  const [tab, rest = ""] = location.hash.slice(1).split("/");
  return tab in TABS ? [tab, rest] : ["picture", ""];
}

function showTab() {
  const [tab, rest] = parseRoute();
  if (current && current !== tab) {
    TABS[current].leave?.();
    scrollTo(0, 0);
  }
  for (const name of Object.keys(TABS)) {
    const button = $(`#tab-${name}`);
    button.setAttribute("aria-selected", name === tab);
    button.tabIndex = name === tab ? 0 : -1;
    $(`#panel-${name}`).hidden = name !== tab;
  }
  current = tab;
  shown = location.hash;
  for (const note of $$(".notice"))
    if (note.dataset.place && note.dataset.place === location.hash.slice(1)) note.remove();
  TABS[tab].enter?.(rest);
}

/** Arrow keys walk along the tabs, as is the custom for them. */
function startTabs() {
  const names = Object.keys(TABS);
  for (const name of names)
    $(`#tab-${name}`).addEventListener("click", () => goTo(name === current ? name : (TABS[name].place?.() ?? name)));
  $("[role=tablist]").addEventListener("keydown", (event) => {
    const at = names.indexOf(current);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: names.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    const name = names[(to + names.length) % names.length];
    goTo(TABS[name].place?.() ?? name);
    $(`#tab-${name}`).focus();
  });
  addEventListener("hashchange", () => location.hash === shown || showTab());
}

/** At once, not when the browser says that the address has changed: a second key may come before that. */
const goTo = (place) => {
  location.hash = place;
  showTab();
};

/** Notices that are shown at the same time; the oldest makes room. */
const MOST_NOTICES = 3;
const NOTICE_MS = 10_000;

/**
 * A word in the corner that goes after a while, but not while a pointer or the focus is on it, nor while nobody sees the
 * page. `action`: {text, run}; one that leads to a `place` is gone when the person gets there; of those with the same `key`
 * the last takes the place of the one before. `lasting`: it stays. Answers whether it is still shown.
 */
function showNotice(text, { action, lasting = false, place = "", key = text } = /** @type {NoticeOptions} */ ({})) {
  const close = () => box.remove();
  const box = makeElement(
    "div",
    { class: "notice", "data-place": place, "data-key": key },
    makeElement("p", { text }),
    action &&
      makeElement("button", { type: "button", class: "button", text: action.text, onclick: () => (close(), action.run()) }),
    makeElement("button", { type: "button", class: "button quiet", "aria-label": t("close"), onclick: close }, makeIcon("close")),
  );
  const list = $("#notices");
  for (const other of $$(".notice", list)) if (other.dataset.key === key) other.remove();
  list.append(box);
  while (list.children.length > MOST_NOTICES) list.firstElementChild.remove();
  let timer;
  const wait = () => {
    clearTimeout(timer);
    const isUsed = () => document.hidden || box.matches(":hover, :focus-within");
    if (!lasting) timer = setTimeout(() => (isUsed() ? wait() : close()), NOTICE_MS);
  };
  for (const name of ["pointerleave", "focusout"]) box.addEventListener(name, wait);
  wait();
  return () => box.isConnected;
}

/** Whether a file is read as a video; what does not say its kind is what the tab at hand reads. */
const isVideo = ({ type, name }) =>
  type.startsWith("video/") ||
  (!type.startsWith("image/") &&
    (current === "video" || /\.(mkv|avi|mts|m2ts|ts|vob|wmv|flv|mxf|mov|mp4|webm)$/i.test(name)));

/** Files that were dropped, pasted or chosen: all videos are sent one after the other, and the first picture is read. */
function openFiles(files) {
  const videos = files.filter(isVideo);
  const pictures = files.filter((file) => !videos.includes(file));
  if (!files.length) return;
  if (pictures.length > 1) showNotice(t("drop.first", { name: pictures[0].name }));
  goTo(videos.includes(files[0]) ? "video" : "picture");
  if (pictures.length) picture.openFile(pictures[0]);
  if (videos.length) video.openFiles(videos);
}

/** Send files as videos, whatever their kind: a moving picture too. */
function sendVideos(files) {
  goTo("video");
  video.openFiles(files);
}

function startDragAndDrop() {
  const cover = $("#cover");
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    cover.hidden = false;
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && (cover.hidden = true));
  addEventListener("drop", (event) => {
    cover.hidden = true;
    if (!carriesFiles(event)) return;
    event.preventDefault();
    openFiles([...(event.dataTransfer?.files ?? [])]);
  });
  addEventListener("paste", (event) => {
    const isField = event.target instanceof Element && event.target.closest("input, textarea");
    if (!isField) openFiles([...(event.clipboardData?.files ?? [])]);
  });
}

function applySettings() {
  const root = document.documentElement;
  root.lang = language() === "zh" ? "zh-CN" : "en";
  if (settings.theme === "system") delete root.dataset.theme;
  else root.dataset.theme = settings.theme;
  root.style.setProperty("--display", settings.display ? `${settings.display}px` : "100%");
  document.title = t("title");
  translate();
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  $("#private").textContent = local ? t("private.local") : t("private.remote", { host: location.hostname });
  $("#understand").hidden = settings.understood;
}

/** The server's facts. */
async function loadServerSettings() {
  Object.assign(server, await api.fetchServerSettings());
  if (!["", ...server.models].includes(settings.model)) changeSettings({ model: "" }); // kept of another day's server
  if (!["", ...server.detectors].includes(settings.detector)) changeSettings({ detector: "" });
}

function askForToken() {
  const dialog = $("#login");
  const field = $("input[name=token]", dialog);
  dialog.showModal();
  /** @type {Promise<void>} */
  const signedIn = new Promise((resolve) => {
    dialog.onclose = () => dialog.showModal(); // nothing behind it works; some browsers close it by Escape all the same
    dialog.oncancel = (event) => event.preventDefault();
    $("form", dialog).onsubmit = async (event) => {
      event.preventDefault();
      try {
        await api.login(field.value);
        dialog.onclose = null;
        dialog.close();
        resolve();
      } catch (error) {
        $(".error-text", dialog).textContent =
          error.status === 401 ? t("login.wrong") : error.message;
        field.select();
      }
    };
  });
  return signedIn;
}

async function start() {
  applySettings();
  onSettingsChange(applySettings);
  $("#understand button").addEventListener("click", () => {
    changeSettings({ understood: true });
    $("#main").focus();
  });
  $(".skip").addEventListener("click", (event) => (event.preventDefault(), $("#main").focus()));
  startTabs();
  api.setTokenDialog(askForToken);
  try {
    await loadServerSettings();
  } catch (error) {
    showNotice(error.message, { lasting: true, action: { text: t("again"), run: () => location.reload() } });
  }
  const shared = { goTo, showNotice, openFiles, sendVideos };
  for (const tab of Object.values(TABS)) tab.start(shared);
  startDragAndDrop();
  showTab();
  document.documentElement.dataset.ready = "";
}

start();
