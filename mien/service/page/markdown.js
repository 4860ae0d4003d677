// Markdown of model cards as elements: headings, lists, tables, code, links. Text stays text: nothing in it becomes HTML.

import { makeElement } from "./dom.js";

/** "a **b** `c` [d](e)" → nodes. Only links to the web are made. */
function renderInline(text) {
  const nodes = [];
  const pattern = /\*\*(.+?)\*\*|`([^`]+)`|\[([^\]]+)\]\((https?:[^)\s]+)\)|(?<![\w*])[*_]([^*_]+)[*_](?!\w)/g;
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    nodes.push(text.slice(at, match.index));
    const [whole, strong, code, words, address, stressed] = match;
    if (strong) nodes.push(makeElement("strong", {}, ...renderInline(strong)));
    else if (code) nodes.push(makeElement("code", { text: code }));
    else if (words) nodes.push(makeElement("a", { href: address, target: "_blank", rel: "noopener noreferrer", text: words }));
    else nodes.push(makeElement("em", { text: stressed }));
    at = match.index + whole.length;
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}

const splitCells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

function renderTable(lines) {
  const [head, , ...body] = lines.map(splitCells);
  const line = (tag) => (values) => makeElement("tr", {}, ...values.map((value) => makeElement(tag, {}, ...renderInline(value))));
  return makeElement(
    "div",
    { class: "scroll" },
    makeElement("table", {}, makeElement("thead", {}, line("th")(head)), makeElement("tbody", {}, ...body.map(line("td")))),
  );
}

/** A whole text → elements. `top` is the level that "#" becomes, since cards stand under headings of the page. */
export function renderMarkdown(text, top = 3) {
  const body = text.replaceAll("\r", "").replace(/^---\n[\s\S]*?\n---\n/, ""); // without YAML at its head
  return body.split(/^```.*\n([\s\S]*?)^```[ \t]*$/m).flatMap((part, at) => {
    if (at % 2) return [makeElement("pre", { tabindex: 0 }, makeElement("code", { text: part.trimEnd() }))]; // what stood between fences
    return part.split(/\n{2,}/).flatMap((block) =>
      renderBlocks(
        block.split("\n").filter((line) => line.trim()),
        top,
      ),
    );
  });
}

function renderBlocks(lines, top) {
  if (!lines.length) return [];
  const heading = lines[0].match(/^(#+)\s+(.*)/);
  if (heading) {
    const level = Math.min(top + heading[1].length - 1, 6);
    return [makeElement(`h${level}`, {}, ...renderInline(heading[2])), ...renderBlocks(lines.slice(1), top)];
  }
  if (lines.length > 1 && lines[0].includes("|") && /^[\s|:-]+$/.test(lines[1])) return [renderTable(lines)];
  if (/^\s*[-*] /.test(lines[0])) return [makeElement("ul", {}, ...splitItems(lines, /^\s*[-*] /))];
  if (/^\s*\d+\. /.test(lines[0])) return [makeElement("ol", {}, ...splitItems(lines, /^\s*\d+\. /))];
  const list = lines.findIndex((line) => /^\s*[-*] /.test(line));
  if (list > 0) return [makeElement("p", {}, ...renderInline(lines.slice(0, list).join(" "))), ...renderBlocks(lines.slice(list), top)];
  return [makeElement("p", {}, ...renderInline(lines.join(" ")))];
}

/** Lines of a list → its items; a line without a mark goes on with the item before it. */
function splitItems(lines, mark) {
  const texts = [];
  for (const line of lines) {
    if (mark.test(line)) texts.push(line.replace(mark, ""));
    else texts[texts.length - 1] += ` ${line.trim()}`;
  }
  return texts.map((text) => makeElement("li", {}, ...renderInline(text)));
}
