// The controls under a video: play, time, sound, speed, boxes, full screen; by hand or by key.

import { $, makeButton, makeIcon, makeElement } from "./dom.js";
import { formatClock, t } from "./words.js";

const SPEEDS = [0.25, 0.5, 1, 1.5, 2];

/**
 * A bar of controls for `video`; `whole` is what fills the screen. `toggleBoxes` hears whether boxes are wished; `position` is
 * where the video stands, in our seconds: now(), end(), seek(second).
 */
export function makeTransport(video, whole, { toggleBoxes, position, signal }) {
  const play = makeButton("play", "", () => (video.paused ? video.play() : video.pause()), {
    class: "button round primary",
  });
  const sound = makeButton("sound", "", () => (video.muted = !video.muted), { class: "button quiet round" });
  const boxes = makeButton(
    "boxes",
    "",
    () => {
      const on = boxes.getAttribute("aria-pressed") !== "true";
      boxes.setAttribute("aria-pressed", on);
      toggleBoxes(on);
    },
    {
      class: "button quiet round boxes",
      "aria-pressed": "true",
      "aria-label": t("player.boxes"),
      title: t("player.boxes"),
    },
  );
  const full = makeButton(
    "full",
    "",
    () => (document.fullscreenElement ? document.exitFullscreen() : whole.requestFullscreen()),
    {
      class: "button quiet round",
      "aria-label": t("player.full"),
      title: t("player.full"),
      hidden: !whole.requestFullscreen,
    },
  );
  const time = makeElement("span", { class: "time" });
  const place = makeElement("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    value: 0,
    "aria-label": t("player.place"),
    oninput: () => position.seek(Number(place.value)),
  });
  const speed = makeElement(
    "select",
    {
      "aria-label": t("player.speed"),
      title: t("player.speed"),
      onchange: () => (video.playbackRate = Number(speed.value)),
    },
    ...SPEEDS.map((value) => makeElement("option", { value, text: `${value}×`, selected: value === 1 })),
  );

  const update = () => {
    const [second, end] = [position.now(), position.end()];
    time.textContent = `${formatClock(second)} / ${formatClock(end)}`;
    place.max = end || 1;
    place.value = second;
    place.setAttribute("aria-valuetext", formatClock(second));
    place.style.setProperty("--share", end ? second / end : 0);
    setButton(play, video.paused ? "play" : "pause", t(video.paused ? "player.play" : "player.pause"));
    setButton(sound, video.muted ? "mute" : "sound", t(video.muted ? "player.unmute" : "player.mute"));
  };
  const events = ["timeupdate", "play", "pause", "loadedmetadata", "durationchange", "volumechange", "seeking"];
  for (const name of [...events, "clockchange"])
    video.addEventListener(name, update, { signal });
  video.addEventListener("click", () => play.click(), { signal });
  $("#player").addEventListener("keydown", (event) => onKey(event, video, { play, sound, full, position }), { signal });
  update();
  return makeElement(
    "div",
    { class: "controls transport", role: "group", "aria-label": t("player.controls") },
    play,
    time,
    place,
    speed,
    sound,
    boxes,
    full,
  );
}

function setButton(control, name, words) {
  if (control.title === words) return;
  control.title = words;
  control.setAttribute("aria-label", words);
  control.firstElementChild.replaceWith(makeIcon(name));
}

/**
 * K plays, M mutes, F fills the screen, J and L go five seconds back and on, comma and full stop step a frame: while the
 * focus is in the player, so that other keys mean nothing elsewhere. Fields keep their own keys.
 */
function onKey(event, video, { play, sound, full, position }) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const does = {
    k: () => play.click(),
    m: () => sound.click(),
    f: () => full.click(),
    j: () => position.seek(position.now() - 5),
    l: () => position.seek(position.now() + 5),
    ",": () => (video.pause(), position.seek(position.now() - 1 / 30)),
    ".": () => (video.pause(), position.seek(position.now() + 1 / 30)),
  }[event.key.toLowerCase()];
  if (!does || event.target.closest("select, textarea, dialog, input:not([type=range], [type=checkbox])")) return;
  event.preventDefault();
  does();
}
