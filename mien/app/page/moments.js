// The strongest moments of each expression in a video, and a still of each.

import { make } from "./dom.js";

/** Moments of one expression that are closer than this are one. */
const APART_S = 1.5;
const MOST_PER_LABEL = 4;
/** What is less sure than this is no moment of anything. */
const SURE = 0.4;

/**
 * The highest peaks per expression: [{label, track, person, time, probability, box}], the highest first.
 *
 * `data` is what the service's frames tell. Only faces that show the expression count (their steady label).
 */
export function momentsOf(data) {
  const persons = new Map(data.people.map(({ track, person }) => [track, person]));
  const found = data.labels.flatMap((label, at) => {
    const peaks = [];
    data.times.forEach((time, frame) => {
      for (const [track, x1, y1, x2, y2, shown, probabilities] of data.faces[frame])
        if (shown === at && probabilities[at] >= SURE)
          peaks.push({
            label,
            track,
            person: persons.get(track) ?? track + 1,
            time,
            probability: probabilities[at],
            box: [x1, y1, x2, y2],
          });
    });
    const kept = [];
    for (const peak of peaks.sort((a, b) => b.probability - a.probability || a.time - b.time)) {
      if (kept.length === MOST_PER_LABEL) break;
      if (!kept.some((other) => other.track === peak.track && Math.abs(other.time - peak.time) < APART_S))
        kept.push(peak);
    }
    return kept;
  });
  return found.sort((a, b) => b.probability - a.probability);
}

/**
 * Draw the faces of moments onto their canvases from the first of the addresses whose video the browser can play.
 * `signal` ends it. Where it plays none of them, the canvases stay as they are.
 */
export async function drawStills(addresses, moments, canvases, size, signal) {
  for (const address of addresses)
    if (signal.aborted || (await drawFrom(address, moments, canvases, size, signal))) return;
}

/** The same from one address, out of a copy of the video that nobody sees: whether it can be played to the end. */
async function drawFrom(address, moments, canvases, { width, height }, signal) {
  const video = make("video", { muted: true, preload: "metadata", playsinline: true });
  const event = (name) =>
    new Promise((resolve, reject) => {
      video.addEventListener(name, resolve, { once: true });
      video.addEventListener("error", () => reject(new Error(name)), { once: true });
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  try {
    const ready = event("loadedmetadata");
    video.src = address;
    await ready;
    if (!video.videoWidth) return false; // only its sound can be played
    for (const [index, { time, box }] of moments.entries()) {
      const there = event("seeked");
      video.currentTime = time + 0.001; // a hair inside the frame, not on its edge
      await there;
      drawFace(canvases[index], video, box, video.videoWidth / width, video.videoHeight / height);
      canvases[index].classList.add("drawn");
    }
    return true;
  } catch (error) {
    if (!signal.aborted && !(error instanceof Error)) throw error;
    return false;
  } finally {
    video.removeAttribute("src");
    video.load();
  }
}

/** A square around the face, a little wider than its box. */
function drawFace(canvas, video, [x1, y1, x2, y2], across, down) {
  const side = Math.max(x2 - x1, y2 - y1) * 1.5;
  const [left, top] = [(x1 + x2 - side) / 2, (y1 + y2 - side) / 2];
  canvas
    .getContext("2d")
    .drawImage(video, left * across, top * down, side * across, side * down, 0, 0, canvas.width, canvas.height);
}
