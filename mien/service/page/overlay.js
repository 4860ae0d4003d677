// Boxes and labels on a canvas that lies over a picture or a video. Labels stay inside and never cover one another.

import { getBoxColor, chooseTextColor, settings } from "./store.js";
import { getFaceName, formatPercent } from "./words.js";

const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif';

const overlap = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

const clamp = (value, size, room) => Math.min(Math.max(value, 0), Math.max(room - size, 0));

/** More faces than this are a crowd: a label that finds no place beside its face is left out rather than put far away. */
const CROWD = 12;

/** Places for a label outside its box [x1, y1, x2, y2] but touching it, best first; pushed inside the bounds. */
function listOuterPlaces([x1, y1, x2, y2], { width, height }, bounds) {
  const above = [
    [x1, y1 - height],
    [x2 - width, y1 - height],
  ];
  const below = [
    [x1, y2],
    [x2 - width, y2],
  ];
  const aside = [
    [x2, y1],
    [x1 - width, y1],
    [x2, y2 - height],
    [x1 - width, y2 - height],
  ];
  return pushInside([...above, ...below, ...aside], width, height, bounds);
}

/** Places within the box: at its top, at its bottom. */
const listInnerPlaces = ([x1, y1, , y2], { width, height }, bounds) =>
  pushInside(
    [
      [x1, y1],
      [x1, y2 - height],
    ],
    width,
    height,
    bounds,
  );

const pushInside = (corners, width, height, bounds) =>
  corners.map(([x, y]) => ({ x: clamp(x, width, bounds.width), y: clamp(y, height, bounds.height), width, height }));

/** Places all over the bounds, those near the box first. */
function listAllPlaces([x1, y1], { width, height }, bounds) {
  const all = [];
  for (let y = 0; y + height <= bounds.height; y += height)
    for (let x = 0; x + width <= bounds.width; x += Math.max(width / 2, 8)) all.push({ x, y, width, height });
  return all.sort((a, b) => Math.hypot(a.x - x1, a.y - y1) - Math.hypot(b.x - x1, b.y - y1));
}

/**
 * Where the labels of several boxes go.
 *
 * `sizes` holds for each box the sizes {width, height} of its label's versions, longest first. Answers for each box
 * {x, y, width, height, version}, or null where it finds no room. `order`: who chooses first.
 */
export function placeLabels(boxes, sizes, bounds, order = boxes.map((_, index) => index)) {
  const placed = boxes.map(() => null);
  const taken = [];
  for (const index of order) {
    const others = boxes
      .filter((_, each) => each !== index)
      .map(([x1, y1, x2, y2]) => ({ x: x1, y: y1, width: x2 - x1, height: y2 - y1 }));
    placed[index] = findFreePlace(boxes[index], sizes[index], bounds, taken, others);
    if (placed[index]) taken.push(placed[index]);
  }
  return placed;
}

/** Beside the face and over no other; within its own box; beside it over others; anywhere. Fewer words before the next. */
function findFreePlace(box, versions, bounds, taken, others) {
  const isClear = (place) => !taken.some((label) => overlap(place, label));
  const isAlone = (place) => isClear(place) && !others.some((face) => overlap(place, face));
  const crowd = others.length >= CROWD;
  const ways = [
    [listOuterPlaces, isAlone],
    [(face, size, room) => (size.width <= face[2] - face[0] ? listInnerPlaces(face, size, room) : []), isAlone],
    ...(crowd
      ? []
      : [
          [listOuterPlaces, isClear],
          [listAllPlaces, isClear],
        ]),
  ];
  for (const [places, fits] of ways)
    for (const [version, size] of versions.entries()) {
      if (size.width > bounds.width || size.height > bounds.height) continue;
      const found = places(box, size, bounds).find(fits);
      if (found) return { ...found, version };
    }
  return null;
}

/** Sizes of lines and text in pixels of the page: the person's, else by the size of what is shown and of its faces. */
function chooseSizes(width, height, boxes) {
  const side = Math.min(width, height);
  const faces = boxes.map(([, y1, , y2]) => y2 - y1).sort((a, b) => a - b);
  const usual = faces[faces.length >> 1];
  return {
    line: settings.line || Math.min(Math.max(Math.min(side / 200, usual / 20), 1.5), 3.5),
    text: settings.text || Math.round(Math.min(Math.max(Math.min(side / 30, usual / 3), 10), 17)),
  };
}

/**
 * What stands on a face's label, longest first; of several faces the number, which the page names them by, comes last.
 *
 * @param {DrawnFace} face
 */
function makeLabelTexts(face) {
  const { number, probability } = face;
  const name = getFaceName(face);
  if (number === undefined) return [`${name} ${formatPercent(probability)}`, name];
  return [`${number} · ${name} ${formatPercent(probability)}`, `${number} · ${name}`, `${number}`];
}

/**
 * Draw faces [{box, label, unsure, noFace, probability, number}] over what is `width` × `height` pixels large.
 *
 * The canvas fills what it lies over; it is made as fine as the screen. `chosen` is an index, or -1; `mirrored` swaps
 * left and right of the boxes, not of the words.
 */
export function drawFaces(canvas, faces, { width, height, chosen = -1, mirrored = false }) {
  const bounds = { width: canvas.clientWidth, height: canvas.clientHeight };
  const fine = window.devicePixelRatio || 1;
  const [wide, high] = [Math.round(bounds.width * fine), Math.round(bounds.height * fine)];
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, { width: wide, height: high });
  const pen = canvas.getContext("2d");
  pen.setTransform(fine, 0, 0, fine, 0, 0);
  pen.clearRect(0, 0, bounds.width, bounds.height);
  if (!faces.length || !bounds.width) return;
  const boxes = faces.map(({ box: [x1, y1, x2, y2] }) => {
    const [left, right] = mirrored ? [width - x2, width - x1] : [x1, x2];
    return [
      (left * bounds.width) / width,
      (y1 * bounds.height) / height,
      (right * bounds.width) / width,
      (y2 * bounds.height) / height,
    ];
  });
  const { line, text } = chooseSizes(bounds.width, bounds.height, boxes);
  faces.forEach((face, index) =>
    drawBox(pen, boxes[index], getBoxColor(face), line, chosen < 0 || chosen === index),
  );
  pen.font = `600 ${text}px ${FONT}`;
  const pad = Math.round(text * 0.45);
  const words = faces.map(makeLabelTexts);
  const sizes = words.map((versions) =>
    versions.map((each) => ({ width: pen.measureText(each).width + 2 * pad, height: text + pad + 2 })),
  );
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  const order = boxes
    .map((_, index) => index)
    .sort((a, b) => Number(b === chosen) - Number(a === chosen) || area(boxes[b]) - area(boxes[a]));
  placeLabels(boxes, sizes, bounds, order).forEach((place, index) => {
    if (place) drawLabel(pen, place, words[index][place.version], getBoxColor(faces[index]), pad);
  });
}

/** A dark rim keeps a light box visible on light ground, and the other way round. */
function drawBox(pen, [x1, y1, x2, y2], color, line, strong) {
  const round = Math.min(6, (x2 - x1) / 8);
  pen.beginPath();
  pen.roundRect(x1, y1, x2 - x1, y2 - y1, round);
  pen.globalAlpha = strong ? 1 : 0.85;
  pen.strokeStyle = "rgb(0 0 0 / .35)";
  pen.lineWidth = (strong ? line : line * 0.7) + 1.5;
  pen.stroke();
  pen.strokeStyle = color;
  pen.lineWidth = strong ? line : line * 0.7;
  pen.stroke();
  pen.globalAlpha = 1;
}

function drawLabel(pen, { x, y, width, height }, text, color, pad) {
  pen.beginPath();
  pen.roundRect(x + 0.5, y + 0.5, width - 1, height - 1, Math.min(5, height / 3));
  pen.fillStyle = color;
  pen.fill();
  pen.fillStyle = chooseTextColor(color);
  pen.textBaseline = "middle";
  pen.fillText(text, x + pad, y + height / 2 + 0.5);
}

/** Which face lies under a pointer event: the smallest there, or -1. */
export function findFaceAt(event, canvas, faces, { width, height }) {
  const area = canvas.getBoundingClientRect();
  const x = ((event.clientX - area.left) / area.width) * width;
  const y = ((event.clientY - area.top) / area.height) * height;
  let [found, smallest] = [-1, Infinity];
  faces.forEach(({ box: [x1, y1, x2, y2] }, index) => {
    const size = (x2 - x1) * (y2 - y1);
    if (x >= x1 && x <= x2 && y >= y1 && y <= y2 && size < smallest) [found, smallest] = [index, size];
  });
  return found;
}
