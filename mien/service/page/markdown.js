// Markdown of model cards as elements: headings, lists, tables, code, links. Text stays text: nothing in it becomes HTML.

import { make } from "./dom.js";

/** "a **b** `c` [d](e)" → nodes. Only links to the web are made. */
function inline(text) {
  const nodes = [];
  const pattern = /\*\*(.+?)\*\*|`([^`]+)`|\[([^\]]+)\]\((https?:[^)\s]+)\)|(?<![\w*])[*_]([^*_]+)[*_](?!\w)/g;
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    nodes.push(text.slice(at, match.index));
    const [whole, strong, code, words, address, stressed] = match;
    if (strong) nodes.push(make("strong", {}, ...inline(strong)));
    else if (code) nodes.push(make("code", { text: code }));
    else if (words) nodes.push(make("a", { href: address, target: "_blank", rel: "noopener noreferrer", text: words }));
    else nodes.push(make("em", { text: stressed }));
    at = match.index + whole.length;
  }
  nodes.push(text.slice(at));
  return nodes.filter((node) => node !== "");
}

const cells = (line) =>
  line
    .trim()
    .replace(/^\||\|$/g, "")
    .split("|")
    .map((cell) => cell.trim());

function table(lines) {
  const [head, , ...body] = lines.map(cells);
  const line = (tag) => (values) => make("tr", {}, ...values.map((value) => make(tag, {}, ...inline(value))));
  return make(
    "div",
    { class: "scroll" },
    make("table", {}, make("thead", {}, line("th")(head)), make("tbody", {}, ...body.map(line("td")))),
  );
}

/** A whole text → elements. `top` is the level that "#" becomes, since cards stand under headings of the page. */
export function markdown(text, top = 3) {
  const body = text.replaceAll("\r", "").replace(/^---\n[\s\S]*?\n---\n/, ""); // without YAML at its head
  return body.split(/^```.*\n([\s\S]*?)^```[ \t]*$/m).flatMap((part, at) => {
    if (at % 2) return [make("pre", { tabindex: 0 }, make("code", { text: part.trimEnd() }))]; // what stood between fences
    return part.split(/\n{2,}/).flatMap((block) =>
      parts(
        block.split("\n").filter((line) => line.trim()),
        top,
      ),
    );
  });
}

function parts(lines, top) {
  if (!lines.length) return [];
  const heading = lines[0].match(/^(#+)\s+(.*)/);
  if (heading) {
    const level = Math.min(top + heading[1].length - 1, 6);
    return [make(`h${level}`, {}, ...inline(heading[2])), ...parts(lines.slice(1), top)];
  }
  if (lines.length > 1 && lines[0].includes("|") && /^[\s|:-]+$/.test(lines[1])) return [table(lines)];
  if (/^\s*[-*] /.test(lines[0])) return [make("ul", {}, ...items(lines, /^\s*[-*] /))];
  if (/^\s*\d+\. /.test(lines[0])) return [make("ol", {}, ...items(lines, /^\s*\d+\. /))];
  const list = lines.findIndex((line) => /^\s*[-*] /.test(line));
  if (list > 0) return [make("p", {}, ...inline(lines.slice(0, list).join(" "))), ...parts(lines.slice(list), top)];
  return [make("p", {}, ...inline(lines.join(" ")))];
}

/** Lines of a list → its items; a line without a mark goes on with the item before it. */
function items(lines, mark) {
  const texts = [];
  for (const line of lines) {
    if (mark.test(line)) texts.push(line.replace(mark, ""));
    else texts[texts.length - 1] += ` ${line.trim()}`;
  }
  return texts.map((text) => make("li", {}, ...inline(text)));
}
