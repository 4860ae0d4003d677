// The strongest moments of each expression in a video, and a still of each.

import { makeElement } from "./dom.js";
import { isOver, showFrame } from "./film.js";

const MOST_PER_LABEL = 4;

/**
 * The highest peaks per expression, out of what the summary tells of all: [{label, track, person, player_time_s, probability,
 * box}], the highest first. A face of which the model is unsure is a moment of nothing.
 */
export function selectMoments({ peaks = [] }) {
  const kept = new Map();
  for (const peak of [...peaks].sort((a, b) => b.probability - a.probability)) {
    const others = kept.get(peak.label) ?? [];
    if (!peak.unsure && others.length < MOST_PER_LABEL) kept.set(peak.label, [...others, peak]);
  }
  return [...kept.values()].flat().sort((a, b) => b.probability - a.probability);
}

/**
 * Draw each moment's face onto its own canvas, out of a copy of the video that nobody sees.
 *
 * `stills` are [{player_time_s, box, canvas}]; `film` is {address, shift} of a video that the browser plays (see film.js); `size` is
 * that of the frames in which boxes are told. Where the video breaks off, the canvases that are left stay empty.
 */
export async function drawStills({ address, shift }, stills, { width, height }, signal) {
  const video = makeElement("video", { muted: true, preload: "auto", playsinline: true, src: address });
  try {
    for (const { player_time_s: time, box, canvas } of stills) {
      const isShown = await showFrame(video, time + shift, signal);
      if (!video.videoWidth) return; // only its sound can be played
      if (!isShown) continue; // no still is better than a wrong one
      drawFace(canvas, video, box, video.videoWidth / width, video.videoHeight / height);
      canvas.classList.add("drawn");
    }
  } catch (error) {
    if (!isOver(error, signal)) throw error;
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
