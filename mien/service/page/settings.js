// The tab of settings. Each is kept in the browser at once; nothing has to be saved.

import { logout } from "./api.js";
import { $, button, icon, make } from "./dom.js";
import { drawFaces } from "./overlay.js";
import { change, colorOfLabel, onChange, reset, server, settings } from "./store.js";
import { labelName, number, span, t } from "./words.js";

export function start() {
  const form = $("#settings-form");
  form.addEventListener("submit", (event) => event.preventDefault());
  fill();
  onChange((changed) => {
    // A field that is being moved must stay; only what it does not show itself is made anew.
    if (changed.has("language") || changed.has("coloring") || changed.has("colors") || changed.size > 3) fill();
    preview();
  });
}

export const enter = () => preview();

/** A choice between words: [value, text]. */
function choice(name, choices, note, convert = String) {
  const select = make(
    "select",
    {
      id: `set-${name}`,
      onchange: () => change({ [name]: convert(select.value) }),
      "aria-describedby": note && `note-${name}`,
    },
    ...choices.map(([value, text]) =>
      make("option", { value, text, selected: String(settings[name]) === String(value) }),
    ),
  );
  return field(name, select, note);
}

/** A number on a slider; `says` puts it into words. */
function slider(name, { min, max, step }, says, note) {
  const output = make("output", { for: `set-${name}`, text: says(settings[name]) });
  const range = make("input", {
    type: "range",
    id: `set-${name}`,
    min,
    max,
    step,
    value: settings[name],
    "aria-describedby": note && `note-${name}`,
    oninput: () => {
      change({ [name]: Number(range.value) });
      output.textContent = says(Number(range.value));
      range.setAttribute("aria-valuetext", output.textContent);
    },
  });
  range.setAttribute("aria-valuetext", output.textContent);
  return field(name, make("span", { class: "slider" }, range, output), note);
}

function field(name, control, note) {
  return make(
    "div",
    { class: "field" },
    make("label", { for: `set-${name}`, text: t(`set.${name}`) }),
    control,
    note && make("p", { class: "note", id: `note-${name}`, text: note }),
  );
}

function group(title, ...fields) {
  return make(
    "fieldset",
    { class: `card ${title.split(".")[1]}` },
    make("legend", { text: t(title) }),
    ...fields.filter(Boolean),
  );
}

function fill() {
  const focused = document.activeElement?.id;
  $("#settings-form").replaceChildren(looks(), drawing(), reading(), about());
  if (focused) document.getElementById(focused)?.focus();
  preview();
}

function looks() {
  return group(
    "settings.looks",
    choice("language", [
      ["", t("set.language.auto")],
      ["en", "English"],
      ["zh", "中文"],
    ]),
    choice(
      "theme",
      ["system", "light", "dark"].map((name) => [name, t(`set.theme.${name}`)]),
    ),
    choice(
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

function drawing() {
  const one = settings.coloring === "one";
  return group(
    "settings.drawing",
    make("div", { class: "preview", id: "settings-preview", "aria-hidden": "true" }, icon("heads"), make("canvas")),
    choice(
      "coloring",
      ["expression", "one"].map((name) => [name, t(`set.coloring.${name}`)]),
    ),
    one &&
      field(
        "color",
        make("input", {
          type: "color",
          id: "set-color",
          value: settings.color,
          oninput: (event) => change({ color: event.target.value }),
        }),
        t("set.color.note"),
      ),
    slider("line", { min: 0, max: 10, step: 1 }, (value) => (value ? t("pixels", { count: value }) : t("automatic"))),
    choice(
      "text",
      [[0, t("automatic")], ...[12, 14, 16, 20, 26, 34].map((size) => [size, t("pixels", { count: size })])],
      "",
      Number,
    ),
    palette(),
  );
}

/** A color for each expression, in bars, timelines and boxes. */
function palette() {
  const inputs = Object.keys(server.colors).map((label) =>
    make(
      "label",
      { class: "swatch" },
      make("input", {
        type: "color",
        id: `color-${label}`,
        value: colorOfLabel(label),
        onchange: (event) => change({ colors: { ...settings.colors, [label]: event.target.value } }),
      }),
      make("span", { text: labelName(label) }),
    ),
  );
  const changed = Object.keys(settings.colors).length > 0;
  return make(
    "div",
    { class: "field", role: "group", "aria-label": t("set.colors") },
    make("span", { class: "label", text: t("set.colors") }),
    make("div", { class: "swatches" }, ...inputs),
    changed && button("", t("set.colors.reset"), () => change({ colors: {} })),
  );
}

function reading() {
  const models = server.models.map((name) => [name === server.default_model ? "" : name, name]);
  return group(
    "settings.reading",
    choice("model", models.length ? models : [["", "base"]], t("set.model.note")),
    choice(
      "detector",
      server.detectors.map((name) => [
        name === (server.default_detector ?? "auto") ? "" : name,
        t(`set.detector.${name}`),
      ]),
      t("set.detector.note"),
    ),
    slider(
      "threshold",
      { min: 0, max: 0.95, step: 0.05 },
      (value) => (value ? number(value, 2) : t("set.threshold.own")),
      t("set.threshold.note"),
    ),
    choice("people", [
      ["all", t("set.people.all")],
      ["largest", t("set.people.largest")],
      ...[2, 3, 5].map((count) => [String(count), t("set.people.some", { count })]),
    ]),
    slider(
      "smoothing",
      { min: 0, max: 2, step: 0.05 },
      (value) => (value ? t("seconds", { seconds: number(value, 2) }) : t("off")),
      t("set.smoothing.note"),
    ),
  );
}

function about() {
  return group(
    "settings.about",
    make("p", { text: t("understand") }),
    make("p", { class: "note", text: t("about.private") }),
    server.retention_s && make("p", { class: "note", text: t("video.kept", { span: span(server.retention_s) }) }),
    make(
      "p",
      { class: "note" },
      `mien ${server.version ?? ""} · `,
      make("a", { href: "docs", target: "_blank", rel: "noopener", text: t("about.api") }),
    ),
    make(
      "div",
      { class: "buttons" },
      button("", t("set.reset"), reset, { id: "set-reset" }),
      server.needs_token && button("", t("set.logout"), leave),
    ),
  );
}

/** Sign out; the page asks for the token again. */
const leave = () => logout().finally(() => location.reload());

/** Two faces that nobody has, drawn as a picture's would be. */
function preview() {
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
