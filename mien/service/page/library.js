// The tab of models and reports.

import { $, icon, make } from "./dom.js";
import * as api from "./api.js";
import { markdown } from "./markdown.js";
import { onChange } from "./store.js";
import { bytes, labelName, number, t } from "./words.js";

let [models, reports] = [null, null];

export function start() {
  onChange((changed) => changed.has("language") && models && draw());
}

export async function enter() {
  try {
    [models, reports] = await Promise.all([api.models(), api.reports()]);
    draw();
  } catch (error) {
    $("#models").replaceChildren(make("p", { class: "error-text", role: "alert", text: error.message }));
  }
}

function draw() {
  $("#models").replaceChildren(
    ...(models.length ? models.map(card) : [make("p", { class: "none", text: t("library.nomodels") })]),
  );
  $("#reports").replaceChildren(
    reports.length
      ? make("ul", { class: "reports" }, ...reports.map(reportLine))
      : make("p", { class: "none" }, t("library.noreports"), make("code", { text: "mien serve --reports DIR" })),
  );
}

function reportLine({ name, href }) {
  return make(
    "li",
    {},
    make("a", { href, target: "_blank", rel: "noopener" }, icon("page"), make("span", { text: name }), icon("open")),
  );
}

/** A model in figures; its whole card unfolds. */
function card(model) {
  const { accuracy, macro_f1: f1, data, labels_by: whose } = model.scores || {};
  const on = whose === "raters" ? `${data}, ${t("library.raters")}` : data;
  const facts = [
    typeof accuracy === "number" && [t("library.accuracy"), `${number(accuracy * 100, 1)}%`, on],
    typeof f1 === "number" && [t("library.f1"), number(f1, 3)],
    model.parameters && [t("library.parameters"), number(model.parameters)],
    model.bytes && [t("library.size"), bytes(model.bytes), model.precision],
    model.license && [t("library.license"), model.license],
  ].filter(Boolean);
  const known = ["shipped", "pulled", "local"].includes(model.kind);
  const body = model.card
    ? make("details", { class: "card-text" }, make("summary", { text: t("library.card") }), ...markdown(model.card))
    : make("p", { class: "note", text: t("library.nocard") });
  return make(
    "article",
    { class: "card model" },
    make(
      "div",
      { class: "bar" },
      make("h3", { text: model.name }),
      known && make("span", { class: "tag", text: t(`library.${model.kind}`) }),
    ),
    model.labels.length > 0 && make("p", { class: "labels", text: model.labels.map(labelName).join(" · ") }),
    make(
      "dl",
      {},
      ...facts.map(([name, value, note]) =>
        make("div", {}, make("dt", { text: name }), make("dd", {}, value, note && make("small", { text: note }))),
      ),
    ),
    body,
  );
}
