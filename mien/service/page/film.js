// The clock of a video that plays, against ours: our seconds begin with the file, as those of captions and timelines do.
//
// Chromium counts by the file's own timestamps, in mp4, webm and mkv alike. Of a file whose timestamps begin at 1 s the first
// frame has the mediaTime 1. currentTime is 1 there too, but for mkv and files whose sound begins at 0: there it is 0, and
// the first frame stands still until 1. Firefox subtracts the first timestamp from all. An annotated video begins at 0.

/** What a browser rounds a time by, and more. */
const ROUNDING_S = 0.001;

/** Times are told to the millisecond: this much later lies inside the frame, not on its edge. */
export const INSIDE_S = 0.001;

/** What is added to our seconds for the player's, from the mediaTime of the first frame that it shows. */
export const computeShift = (mediaTime, start) => (mediaTime >= start - ROUNDING_S ? start : 0);

/**
 * Call `onFrame(mediaTime)` with every frame that a video shows, until `signal` ends it. Without that in a browser it hears
 * the video's clock.
 */
export function onEachFrame(video, signal, onFrame) {
  const requestFrame = (heard) =>
    video.requestVideoFrameCallback ? video.requestVideoFrameCallback(heard) : requestAnimationFrame(heard);
  const listener = (_, frame) => {
    if (signal.aborted) return;
    if (frame || video.readyState > 1) onFrame(frame?.mediaTime ?? video.currentTime);
    requestFrame(listener);
  };
  requestFrame(listener);
}

/**
 * Go to a time of the video's own clock; done when its frame is there.
 *
 * Chromium takes an mp4's length without its start for its end, and goes no further until it has been there once.
 */
export async function seekTo(video, time, signal) {
  signal.throwIfAborted();
  for (let tries = 0; tries < 2; tries += 1) {
    const listener = new AbortController(); // takes the listeners of this seek away
    const there = new Promise((resolve, reject) => {
      const once = { once: true, signal: listener.signal };
      video.addEventListener("seeked", resolve, once);
      video.addEventListener("error", () => reject(video.error), once);
      signal.addEventListener("abort", () => reject(signal.reason), once);
    }).finally(() => listener.abort());
    video.currentTime = time;
    const allowed = video.currentTime;
    await there;
    if (time - video.currentTime < ROUNDING_S || video.currentTime !== allowed) return; // there, or called elsewhere meanwhile
  }
}

/** How far a frame's time may lie from the one that was asked for: less than a frame at 50 a second. */
const SAME_FRAME_S = 0.02;
const LOOK_AGAIN_MS = 20;
const PATIENCE_MS = 10_000;

/**
 * Seek to the frame of a time of the video's own clock; returns whether the video shows it.
 *
 * A busy browser says `seeked` before it has painted the frame: until then a canvas gets the one of the seek before. A
 * VideoFrame tells the time of what is painted; where there is none (an address that is not secure), `seeked` has to do.
 */
export async function showFrame(video, time, signal) {
  await seekTo(video, time + INSIDE_S, signal);
  if (!window.VideoFrame) return true;
  const last = performance.now() + PATIENCE_MS;
  while (Math.abs(getPaintedTime(video) - time) > SAME_FRAME_S) {
    if (performance.now() > last) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    signal.throwIfAborted();
  }
  return true;
}

function getPaintedTime(video) {
  const frame = new VideoFrame(video);
  const time = frame.timestamp / 1e6;
  frame.close();
  return time;
}

/** Whether a seek came to nothing because the player was closed or the video breaks off. */
export const isOver = (error, signal) => signal.aborted || error instanceof MediaError;
