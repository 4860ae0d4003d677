// What the service tells of a video's frames, thinned: {times, faces, labels}; who is where at a second of our clock.

/** A box is led from one reading to the next over at most so many seconds. */
const BRIDGE_S = 0.4;

/** Times are told to the millisecond. */
const ROUNDING_S = 0.0006;

/** The last reading at or before a second: an index, or -1. */
function findReadingIndex(times, second) {
  let [low, high] = [0, times.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= second + ROUNDING_S) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

/** The faces at a second: a reading holds until the next; boxes between two close ones are led along a straight line. */
export function getFacesAt(data, second) {
  const at = findReadingIndex(data.times, second);
  if (at < 0) return [];
  const next = data.times[at + 1] - data.times[at] <= BRIDGE_S ? data.faces[at + 1] : [];
  const share = next.length ? (second - data.times[at]) / (data.times[at + 1] - data.times[at]) : 0;
  const noFaces = new Set((data.not_faces ?? []).map(({ track }) => track));
  return data.faces[at].map(([track, ...values]) => {
    const then = next.find(([each]) => each === track);
    const box = values
      .slice(0, 4)
      .map((value, side) => (then ? value + Math.max(share, 0) * (then[side + 1] - value) : value));
    const [label, probabilities, score] = values.slice(4);
    const noFace = noFaces.has(track) || score > (data.not_a_face_above ?? 1);
    return {
      track,
      box,
      label: data.labels[label],
      probabilities,
      probability: noFace ? score : probabilities[label],
      unsure: probabilities[label] < (data.unsure_below ?? 0),
      noFace,
      number: track + 1,
    };
  });
}
