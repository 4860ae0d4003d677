// The tab of models and reports.

import { $, makeIcon, makeElement } from "./dom.js";
import * as api from "./api.js";
import { renderMarkdown } from "./markdown.js";
import { onSettingsChange } from "./store.js";
import { formatBytes, getLabelName, formatNumber, t } from "./words.js";

/** @type {any[]} */
let models = [];
/** @type {{name: string, href: string}[]} */
let reports = [];
let isLoaded = false;

export function start() {
  onSettingsChange((changed) => changed.has("language") && isLoaded && drawLists());
}

export async function enter() {
  try {
    [models, reports] = await Promise.all([api.fetchModels(), api.fetchReports()]);
    isLoaded = true;
    drawLists();
  } catch (error) {
    $("#models").replaceChildren(makeElement("p", { class: "error-text", role: "alert", text: error.message }));
  }
}

function drawLists() {
  $("#models").replaceChildren(
    ...(models.length ? models.map(makeModelCard) : [makeElement("p", { class: "none", text: t("library.nomodels") })]),
  );
  $("#reports").replaceChildren(
    reports.length
      ? makeElement("ul", { class: "reports" }, ...reports.map(makeReportLine))
      : makeElement("p", { class: "none" }, t("library.noreports"), makeElement("code", { text: "mien serve --reports DIR" })),
  );
}

function makeReportLine({ name, href }) {
  return makeElement(
    "li",
    {},
    makeElement("a", { href, target: "_blank", rel: "noopener" }, makeIcon("page"), makeElement("span", { text: name }), makeIcon("open")),
  );
}

/** A model in figures; its whole card unfolds. */
function makeModelCard(model) {
  const { accuracy, macro_f1: f1, data, labels_by: whose } = model.scores || {};
  const on = whose === "annotators" ? `${data}, ${t("library.annotators")}` : data;
  const facts = [
    typeof accuracy === "number" && [t("library.accuracy"), `${formatNumber(accuracy * 100, 1)}%`, on],
    typeof f1 === "number" && [t("library.f1"), formatNumber(f1, 3)],
    model.parameters && [t("library.parameters"), formatNumber(model.parameters)],
    model.bytes && [t("library.size"), formatBytes(model.bytes), model.precision],
    model.license && [t("library.license"), model.license],
  ].filter(Boolean);
  const known = ["shipped", "pulled", "local"].includes(model.kind);
  const body = model.card
    ? makeElement("details", { class: "card-text" }, makeElement("summary", { text: t("library.card") }), ...renderMarkdown(model.card))
    : makeElement("p", { class: "note", text: t("library.nocard") });
  return makeElement(
    "article",
    { class: "card model" },
    makeElement(
      "div",
      { class: "bar" },
      makeElement("h3", { text: model.name }),
      known && makeElement("span", { class: "tag", text: t(`library.${model.kind}`) }),
    ),
    model.labels.length > 0 && makeElement("p", { class: "labels", text: model.labels.map(getLabelName).join(" · ") }),
    makeElement(
      "dl",
      {},
      ...facts.map(([name, value, note]) =>
        makeElement("div", {}, makeElement("dt", { text: name }), makeElement("dd", {}, value, note && makeElement("small", { text: note }))),
      ),
    ),
    body,
  );
}
