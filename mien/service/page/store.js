// What a person has chosen, kept in the browser; and what the server told of itself.

const KEY = "mien.settings";

/** Empty text and 0 leave a choice to mien. */
const DEFAULTS = {
  language: "",
  theme: "system",
  display: 0, // widest picture in pixels; 0: as wide as there is room
  coloring: "expression", // of boxes: "expression" or "one"
  color: "#00c853",
  colors: {}, // expression → a color of one's own
  line: 0,
  text: 0,
  model: "",
  detector: "",
  threshold: 0,
  people: "all",
  smoothing: 0.25,
  mirror: true,
  understood: false,
};

/** What needs no new reading of a picture when it changes. */
const LOOKS = new Set([
  "language",
  "theme",
  "display",
  "coloring",
  "color",
  "colors",
  "line",
  "text",
  "mirror",
  "understood",
]);

const isColor = (value) => /^#[0-9a-f]{6}$/i.test(value);

export const settings = { ...DEFAULTS, ...loadKeptSettings() };

/** What GET /v1/settings answered. */
export const server = { labels: [], colors: {}, models: [], detectors: ["auto"], limits: {}, saliency: false };

const listeners = new Set();

/** What the browser kept of settings that there are, as far as it can be one of ours. */
function loadKeptSettings() {
  try {
    const values = JSON.parse(localStorage.getItem(KEY) ?? "null") ?? {};
    const usable = Object.keys(DEFAULTS).filter((name) => typeof values[name] === typeof DEFAULTS[name]);
    const found = Object.fromEntries(usable.map((name) => [name, values[name]]));
    if (!isColor(found.color)) delete found.color;
    found.colors = Object.fromEntries(Object.entries(found.colors ?? {}).filter(([, value]) => isColor(value)));
    return found;
  } catch {
    return {}; // another program's text under our name
  }
}

/** Change settings; every listener is told what changed, and whether faces must be read again. */
export function changeSettings(values) {
  const changed = Object.keys(values).filter((name) => JSON.stringify(settings[name]) !== JSON.stringify(values[name]));
  if (!changed.length) return;
  Object.assign(settings, values);
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // private windows may keep nothing: the settings hold until the page is closed
  }
  const reading = changed.some((name) => !LOOKS.has(name));
  for (const listener of listeners) listener(new Set(changed), reading);
}

export const resetSettings = () => changeSettings({ ...DEFAULTS, language: settings.language, understood: settings.understood });

export const onSettingsChange = (listener) => listeners.add(listener);

/** The color of an expression: the person's own, else the server's. */
export const getLabelColor = (label) => settings.colors[label] || server.colors[label] || "#8a949e";

/** What is probably no face, in files too. */
const GRAY = "#969696";

/** The color that a face is drawn in. @param {NamedFace} face */
export function getBoxColor({ label, noFace }) {
  if (noFace) return GRAY;
  return settings.coloring === "one" ? settings.color : getLabelColor(label);
}

/** "#00c853" → [0, 200, 83]. */
export const parseHexColor = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** Black or white, whichever is read better on a color (WCAG's relative luminance). */
export function chooseTextColor(hex) {
  const [red, green, blue] = parseHexColor(hex).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#10151a" : "#ffffff";
}
