// The strongest moments of each expression in a video, and a still of each.

import { make } from "./dom.js";
import { isOver, seekTo } from "./film.js";

/** Moments of one expression that are closer than this are one. */
const APART_S = 1.5;
const MOST_PER_LABEL = 4;
/** What is less sure than this is no moment of anything. */
const SURE = 0.4;
/** Times are told to the millisecond: this much later lies inside the frame, not on its edge. */
export const INSIDE_S = 0.001;

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
 * Draw each moment's face onto its own canvas, out of a copy of the video that nobody sees.
 *
 * `stills` are [{time, box, canvas}]; `film` is {address, shift} of a video that the browser plays (see film.js); `size` is
 * that of the frames in which boxes are told. Where the video breaks off, the canvases that are left stay as they are.
 */
export async function drawStills({ address, shift }, stills, { width, height }, signal) {
  const video = make("video", { muted: true, preload: "auto", playsinline: true, src: address });
  try {
    for (const { time, box, canvas } of stills) {
      await seekTo(video, time + shift + INSIDE_S, signal);
      if (!video.videoWidth) return; // only its sound can be played
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
