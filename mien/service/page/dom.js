// A few lines that make the other modules short: finding and making elements, saving files, announcing.

/**
 * The first element that a selector finds, one that index.html or its caller made.
 *
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any}
 */
export const $ = (selector, root = document) => root.querySelector(selector);

/**
 * All elements that a selector finds.
 *
 * @param {string} selector
 * @param {ParentNode} root
 * @returns {any[]}
 */
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/**
 * An element. In `properties`, functions named on… are listeners, `text` is its text, `style` an object of CSS
 * properties, everything else an attribute; false, null and undefined leave an attribute out, but for aria-…="false".
 *
 * @param {string} tag
 * @param {Record<string, any>} properties
 * @param {any[]} children elements and texts; false, null and undefined are left out
 * @returns {any}
 */
export function makeElement(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "text") element.textContent = value;
    else if (name === "style") for (const [key, each] of Object.entries(value)) element.style.setProperty(key, each);
    else if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-") && typeof value === "boolean") element.setAttribute(name, String(value));
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** One of the drawings at the top of index.html. */
export function makeIcon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/**
 * A button with a drawing and a word.
 *
 * @param {string} iconName "" for none
 * @param {string} text
 * @param {(event: any) => unknown} onclick
 * @param {Record<string, any>} properties
 */
export function makeButton(iconName, text, onclick, properties = {}) {
  return makeElement(
    "button",
    { type: "button", class: "button", onclick, ...properties },
    iconName && makeIcon(iconName),
    makeElement("span", { text }),
  );
}

/** Said by screen readers, seen by nobody. */
export function announce(text) {
  const live = $("#live");
  live.textContent = "";
  requestAnimationFrame(() => (live.textContent = text));
}

/** Hand the person a file: a Blob, or the address of one. */
export function saveFile(content, name) {
  const address = typeof content === "string" ? content : URL.createObjectURL(content);
  const link = makeElement("a", { href: address, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  if (typeof content !== "string") setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** "holiday/photo.jpg" → "photo". */
export const getStem = (name) =>
  name
    .split(/[\\/]/)
    .pop()
    .replace(/\.[^.]*$/, "") || "file";
