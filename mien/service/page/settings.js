// The tab of settings. Each is kept in the browser at once; nothing has to be saved.

import { logout } from "./api.js";
import { $, makeButton, makeIcon, makeElement } from "./dom.js";
import { drawFaces } from "./overlay.js";
import { changeSettings, getLabelColor, onSettingsChange, resetSettings, server, settings } from "./store.js";
import { getLabelName, formatNumber, formatSpan, t } from "./words.js";

export function start() {
  const form = $("#settings-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  drawForm();
  onSettingsChange((changed) => {
    // A field that is being moved must stay; only what it does not show itself is made anew.
    if (changed.has("language") || changed.has("coloring") || changed.has("colors") || changed.size > 3) drawForm();
    drawPreview();
  });
}

export const enter = () => drawPreview();

/** A choice between words: [value, text]. */
function makeChoice(name, choices, note = "", convert = /** @type {(value: string) => any} */ (String)) {
  const select = makeElement(
    "select",
    {
      id: `set-${name}`,
      onchange: () => changeSettings({ [name]: convert(select.value) }),
      "aria-describedby": note && `note-${name}`,
    },
    ...choices.map(([value, text]) =>
      makeElement("option", { value, text, selected: String(settings[name]) === String(value) }),
    ),
  );
  return makeField(name, select, note);
}

/** A number on a slider; `describeValue` puts it into words. */
function makeSlider(name, { min, max, step }, describeValue, note) {
  const output = makeElement("output", { for: `set-${name}`, text: describeValue(settings[name]) });
  const range = makeElement("input", {
    type: "range",
    id: `set-${name}`,
    min,
    max,
    step,
    value: settings[name],
    "aria-describedby": note && `note-${name}`,
    oninput: () => {
      changeSettings({ [name]: Number(range.value) });
      output.textContent = describeValue(Number(range.value));
      range.setAttribute("aria-valuetext", output.textContent);
    },
  });
  range.setAttribute("aria-valuetext", output.textContent);
  return makeField(name, makeElement("span", { class: "slider" }, range, output), note);
}

function makeField(name, control, note) {
  return makeElement(
    "div",
    { class: "field" },
    makeElement("label", { for: `set-${name}`, text: t(`set.${name}`) }),
    control,
    note && makeElement("p", { class: "note", id: `note-${name}`, text: note }),
  );
}

function makeGroup(title, ...fields) {
  return makeElement(
    "fieldset",
    { class: `card ${title.split(".")[1]}` },
    makeElement("legend", { text: t(title) }),
    ...fields.filter(Boolean),
  );
}

function drawForm() {
  const focused = document.activeElement?.id;
  $("#settings-form").replaceChildren(makeLooksGroup(), makeDrawingGroup(), makeAnalysisGroup(), makeAboutGroup());
  if (focused) document.getElementById(focused)?.focus();
  drawPreview();
}

function makeLooksGroup() {
  return makeGroup(
    "settings.looks",
    makeChoice("language", [
      ["", t("set.language.auto")],
      ["en", "English"],
      ["zh", "中文"],
    ]),
    makeChoice(
      "theme",
      ["system", "light", "dark"].map((name) => [name, t(`set.theme.${name}`)]),
    ),
    makeChoice(
      "display",
      [
        [0, t("set.display.all")],
        ...[480, 640, 960, 1280].map((width) => [width, t("set.display.pixels", { width: String(width) })]),
      ],
      t("set.display.note"),
      Number,
    ),
  );
}

function makeDrawingGroup() {
  const one = settings.coloring === "one";
  return makeGroup(
    "settings.drawing",
    makeElement("div", { class: "preview", id: "settings-preview", "aria-hidden": "true" }, makeIcon("heads"), makeElement("canvas")),
    makeChoice(
      "coloring",
      ["expression", "one"].map((name) => [name, t(`set.coloring.${name}`)]),
    ),
    one &&
      makeField(
        "color",
        makeElement("input", {
          type: "color",
          id: "set-color",
          value: settings.color,
          oninput: (event) => changeSettings({ color: event.target.value }),
        }),
        t("set.color.note"),
      ),
    makeSlider("line", { min: 0, max: 10, step: 1 }, (value) => (value ? t("pixels", { count: value }) : t("automatic"))),
    makeChoice(
      "text",
      [[0, t("automatic")], ...[12, 14, 16, 20, 26, 34].map((size) => [size, t("pixels", { count: size })])],
      "",
      Number,
    ),
    makePalette(),
  );
}

/** A color for each expression, in bars, timelines and boxes. */
function makePalette() {
  const inputs = Object.keys(server.colors).map((label) =>
    makeElement(
      "label",
      { class: "swatch" },
      makeElement("input", {
        type: "color",
        id: `color-${label}`,
        value: getLabelColor(label),
        onchange: (event) => changeSettings({ colors: { ...settings.colors, [label]: event.target.value } }),
      }),
      makeElement("span", { text: getLabelName(label) }),
    ),
  );
  const changed = Object.keys(settings.colors).length > 0;
  return makeElement(
    "div",
    { class: "field", role: "group", "aria-label": t("set.colors") },
    makeElement("span", { class: "label", text: t("set.colors") }),
    makeElement("div", { class: "swatches" }, ...inputs),
    changed && makeButton("", t("set.colors.reset"), () => changeSettings({ colors: {} })),
  );
}

function makeAnalysisGroup() {
  const models = server.models.map((name) => [name === server.default_model ? "" : name, name]);
  return makeGroup(
    "settings.reading",
    makeChoice("model", models.length ? models : [["", "base"]], t("set.model.note")),
    makeChoice(
      "detector",
      server.detectors.map((name) => [
        name === (server.default_detector ?? "auto") ? "" : name,
        t(`set.detector.${name}`),
      ]),
      t("set.detector.note"),
    ),
    makeSlider(
      "threshold",
      { min: 0, max: 0.95, step: 0.05 },
      (value) => (value ? formatNumber(value, 2) : t("set.threshold.own")),
      t("set.threshold.note"),
    ),
    makeChoice("people", [
      ["all", t("set.people.all")],
      ["largest", t("set.people.largest")],
      ...[2, 3, 5].map((count) => [String(count), t("set.people.some", { count })]),
    ]),
    makeSlider(
      "smoothing",
      { min: 0, max: 2, step: 0.05 },
      (value) => (value ? t("seconds", { seconds: formatNumber(value, 2) }) : t("off")),
      t("set.smoothing.note"),
    ),
  );
}

function makeAboutGroup() {
  return makeGroup(
    "settings.about",
    makeElement("p", { text: t("understand") }),
    makeElement("p", { class: "note", text: t("about.private") }),
    server.retention_s && makeElement("p", { class: "note", text: t("video.kept", { span: formatSpan(server.retention_s) }) }),
    makeElement(
      "p",
      { class: "note" },
      `mien ${server.version ?? ""} · `,
      makeElement("a", { href: "docs", target: "_blank", rel: "noopener", text: t("about.api") }),
    ),
    makeElement(
      "div",
      { class: "buttons" },
      makeButton("", t("set.reset"), resetSettings, { id: "set-reset" }),
      server.needs_token && makeButton("", t("set.logout"), signOut),
    ),
  );
}

/** Sign out; the page asks for the token again. */
const signOut = () => logout().finally(() => location.reload());

/** Two faces that nobody has, drawn as a picture's would be. */
function drawPreview() {
  const canvas = $("#settings-preview canvas");
  if (!canvas?.clientWidth) return;
  const [first, second] = [
    server.labels.find((label) => label === "happy") ?? server.labels[0] ?? "happy",
    server.labels.find((label) => label === "surprise") ?? server.labels[1] ?? "surprise",
  ];
  const faces = [
    { box: [58, 38, 142, 134], label: first, probability: 0.86, number: 1 },
    { box: [249, 50, 323, 134], label: second, probability: 0.64, number: 2 },
  ];
  drawFaces(canvas, faces, { width: 400, height: 150 });
}
