// Whether a picture file moves, told from its bytes: its own tab reads the first frame alone.

/** So much of a file is looked at: a second frame or its announcement stands within the first few hundred kilobytes. */
const HEAD_BYTES = 4 * 2 ** 20;

/** Length of a chunk of PNG beside its data: length, name, checksum. */
const PNG_FRAME_BYTES = 12;

/** @param {File} file */
export async function isAnimated(file) {
  const bytes = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer());
  const name = (/** @type {number} */ from, length = 4) => String.fromCharCode(...bytes.subarray(from, from + length));
  if (name(0, 3) === "GIF") return countGifFrames(bytes, 2) > 1;
  if (name(1, 3) === "PNG") return hasPngAnimation(bytes, name);
  if (name(0) === "RIFF" && name(8) === "WEBP") return name(12) === "VP8X" && (bytes[20] & 2) > 0;
  return name(4) === "ftyp" && name(8) === "avis";
}

/**
 * Frames of a GIF, counted up to `most`. Its blocks: 0x21 an extension, 0x2c a frame, both followed by parts that begin with
 * their length and end with an empty one; 0x3b the end.
 *
 * @param {Uint8Array} bytes
 * @param {number} most
 */
function countGifFrames(bytes, most) {
  const tableBytes = (/** @type {number} */ flags) => (flags & 0x80 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + tableBytes(bytes[10]);
  let frames = 0;
  while (at < bytes.length && frames < most) {
    if (bytes[at] === 0x2c) {
      frames += 1;
      at += 11 + tableBytes(bytes[at + 9]); // its head, its colors, and a byte before the data
    } else if (bytes[at] === 0x21) at += 2;
    else break;
    while (at < bytes.length && bytes[at]) at += bytes[at] + 1;
    at += 1;
  }
  return frames;
}

/**
 * Whether the chunk that announces an animation stands before the data of the picture.
 *
 * @param {Uint8Array} bytes
 * @param {(from: number) => string} name of a chunk
 */
function hasPngAnimation(bytes, name) {
  const view = new DataView(bytes.buffer);
  for (let at = 8; at + PNG_FRAME_BYTES <= bytes.length; at += PNG_FRAME_BYTES + view.getUint32(at)) {
    if (name(at + 4) === "acTL") return true;
    if (name(at + 4) === "IDAT") return false;
  }
  return false;
}
