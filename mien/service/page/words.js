// Every word on the page. t("key") gives it in the person's language; elements carry their key in data-t.

import { CHINESE_ERRORS } from "./errors.zh.js";
import { ENGLISH } from "./words.en.js";
import { CHINESE } from "./words.zh.js";
import { settings } from "./store.js";
import { $$ } from "./dom.js";

export { formatClock } from "./timeline_chart.js";

export const WORDS = { en: ENGLISH, zh: CHINESE };

/** The language in use: chosen, else the browser's, else English. */
export function language() {
  if (settings.language in WORDS) return settings.language;
  return (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en";
}

/** The words for a key; `{name}` in them is filled from values. With `count` of 1 the key with "=1" is used if it is there. */
export function t(key, values = {}) {
  const words = WORDS[language()];
  const text = (values.count === 1 && words[`${key}=1`]) || words[key];
  if (text === undefined) throw new Error(`no words for ${key}`);
  return fillWords(text, values);
}

const fillWords = (text, values) =>
  text.replace(/\{(\w+)\}/g, (_, name) => (typeof values[name] === "number" ? formatNumber(values[name]) : values[name]));

/**
 * What was found and the hint of an error of the service, in the person's language: by its code, where there are words
 * for that; the service itself speaks English.
 *
 * @param {ServiceErrorParts} error
 */
export function explainError({ problem, hint, code, parameters }) {
  const words = (language() === "zh" && CHINESE_ERRORS[code]) || null;
  if (!words) return { problem, hint, isTranslated: false };
  const [found, advice] = words.map((text) => fillWords(text, parameters ?? {}));
  return { problem: found, hint: advice, isTranslated: true };
}

/** The same in a line. */
export function formatError(error) {
  const { problem, hint } = explainError(error);
  return [problem ?? error.message, hint].filter(Boolean).join(language() === "zh" ? "；" : "; ");
}

/** An expression's name; what is not in the dictionary is shown as the model has it. */
export const getLabelName = (label) =>
  WORDS[language()][`label.${label}`] ?? label.charAt(0).toUpperCase() + label.slice(1);

/** The label of a face, with a question mark where it is unsure; of what is probably no face, that. @param {NamedFace} face */
export const getFaceName = ({ label, unsure, noFace }) =>
  noFace ? WORDS[language()]["label.noface"] : getLabelName(label) + (unsure ? "?" : "");

/** What is shown of a face that the service tells of: its expression, or that it is probably none. */
export const getShownValues = ({ is_not_a_face: noFace, not_a_face: score, confidence }) => ({
  noFace,
  probability: noFace ? score : confidence,
});

const getLocale = () => (language() === "zh" ? "zh-CN" : "en");

export const formatNumber = (value, digits = 0) =>
  value.toLocaleString(getLocale(), { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const formatPercent = (share, digits = 0) => `${formatNumber(share * 100, digits)}%`;

/** Two shares of which the first is the lower, with as many digits as it takes to see that. */
export function formatPercents(lower, higher) {
  const digits = [0, 1, 2].find((count) => formatPercent(lower, count) !== formatPercent(higher, count)) ?? 2;
  return [formatPercent(lower, digits), formatPercent(higher, digits)];
}

/** 1234567 → "1.2 MB". */
export function formatBytes(count) {
  const step = [1e9, 1e6, 1e3].find((each) => count >= each);
  return step ? `${formatNumber(count / step, 1)} ${{ 1e9: "GB", 1e6: "MB", 1e3: "kB" }[step]}` : `${count} B`;
}

/** Seconds in words: "40 s", "3 min", "2 h", "7 days". */
export function formatSpan(seconds) {
  if (seconds < 90) return t("span.seconds", { count: Math.max(1, Math.round(seconds)) });
  if (seconds < 5400) return t("span.minutes", { count: Math.round(seconds / 60) });
  if (seconds < 172_800) return t("span.hours", { count: Math.round(seconds / 3600) });
  return t("span.days", { count: Math.round(seconds / 86_400) });
}

/** A moment of the past or future as a date and a time of day. */
export const formatDate = (unix) =>
  new Date(unix * 1000).toLocaleString(getLocale(), { dateStyle: "medium", timeStyle: "short" });

/** Write the words into a part of the page: data-t is text, data-t-label aria-label, data-t-title title. */
export function translate(root = document) {
  for (const element of $$("[data-t]", root)) element.textContent = t(element.dataset.t);
  for (const element of $$("[data-t-label]", root)) element.setAttribute("aria-label", t(element.dataset.tLabel));
  for (const element of $$("[data-t-title]", root)) element.title = t(element.dataset.tTitle);
}
