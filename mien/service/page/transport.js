// The controls under a video: play, time, sound, speed, boxes, full screen; by hand or by key.

import { $, button, icon, make } from "./dom.js";
import { clock, t } from "./words.js";

const SPEEDS = [0.25, 0.5, 1, 1.5, 2];

/**
 * A bar of controls for `video`; `whole` is what fills the screen. `toggleBoxes` hears whether boxes are wished; `position` is
 * where the video stands, in our seconds: now(), end(), seek(second).
 */
export function transport(video, whole, { toggleBoxes, position, signal }) {
  const play = button("play", "", () => (video.paused ? video.play() : video.pause()), {
    class: "button round primary",
  });
  const sound = button("sound", "", () => (video.muted = !video.muted), { class: "button quiet round" });
  const boxes = button(
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
  const full = button(
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
  const time = make("span", { class: "time" });
  const place = make("input", {
    type: "range",
    min: 0,
    max: 1,
    step: 0.01,
    value: 0,
    "aria-label": t("player.place"),
    oninput: () => position.seek(Number(place.value)),
  });
  const speed = make(
    "select",
    {
      "aria-label": t("player.speed"),
      title: t("player.speed"),
      onchange: () => (video.playbackRate = Number(speed.value)),
    },
    ...SPEEDS.map((value) => make("option", { value, text: `${value}×`, selected: value === 1 })),
  );

  const draw = () => {
    const [second, end] = [position.now(), position.end()];
    time.textContent = `${clock(second)} / ${clock(end)}`;
    place.max = end || 1;
    place.value = second;
    place.setAttribute("aria-valuetext", clock(second));
    place.style.setProperty("--share", end ? second / end : 0);
    dress(play, video.paused ? "play" : "pause", t(video.paused ? "player.play" : "player.pause"));
    dress(sound, video.muted ? "mute" : "sound", t(video.muted ? "player.unmute" : "player.mute"));
  };
  const events = ["timeupdate", "play", "pause", "loadedmetadata", "durationchange", "volumechange", "seeking"];
  for (const name of [...events, "clockchange"])
    video.addEventListener(name, draw, { signal });
  video.addEventListener("click", () => play.click(), { signal });
  $("#player").addEventListener("keydown", (event) => keys(event, video, { play, sound, full, position }), { signal });
  draw();
  return make(
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

function dress(control, name, words) {
  if (control.title === words) return;
  control.title = words;
  control.setAttribute("aria-label", words);
  control.firstElementChild.replaceWith(icon(name));
}

/**
 * K plays, M mutes, F fills the screen, J and L go five seconds back and on, comma and full stop step a frame: while the
 * focus is in the player, so that other keys mean nothing elsewhere. Fields keep their own keys.
 */
function keys(event, video, { play, sound, full, position }) {
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
