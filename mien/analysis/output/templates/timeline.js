// The timeline page: the chart of the persons who are chosen, the words of a moment, and the video that follows.

import { createTimelineChart, formatClock, getBin } from "./timeline_chart.js";

/** What timeline_page.py writes into the page. @type {PageData} */
const data = DATA;
const { timeline, range_s: range } = data;
const labelCount = timeline.labels.length;

/** @type {(id: string) => any} */
const find = (id) => document.getElementById(id);
const [video, slider] = [find("video"), find("slider")];
let now = range[0];

const getColor = (label) => data.colors[timeline.labels.indexOf(label)];

function makeSwatch(label) {
  const swatch = document.createElement("i");
  swatch.className = "swatch";
  swatch.style.background = getColor(label);
  return swatch;
}

for (const label of timeline.labels) {
  const item = document.createElement("li");
  item.append(makeSwatch(label), label);
  find("legend").append(item);
}

/** What a person is called. @param {import("./timeline_chart.js").TimelinePerson} person */
const nameOf = (person) => person.name ?? `person ${person.person}`;

/** What the page says of a person: a box that shows the row, and how long they are seen. */
function makeChoice(person, index) {
  const [label, name, words] = ["label", "b", "small"].map((kind) => document.createElement(kind));
  const box = document.createElement("input");
  box.type = "checkbox";
  box.checked = index < data.first;
  box.addEventListener("change", drawChosen);
  name.textContent = nameOf(person);
  words.textContent = `${formatClock(person.seen_s, person.seen_s < 60)} on screen, ${person.mostly}`;
  label.append(box, name, words);
  find("chooser").append(label);
  return box;
}

const boxes = timeline.persons.map(makeChoice);
const getChosen = () => timeline.persons.filter((_, index) => boxes[index].checked);
const choose = (isChosen) => () => {
  boxes.forEach((box, index) => (box.checked = isChosen(index)));
  drawChosen();
};

const chart = createTimelineChart(find("board"), timeline, {
  plotly: window.Plotly,
  range,
  paper: "--back",
  getColor,
  getName: nameOf,
  empty: timeline.persons.length ? "choose a person above" : "no face was seen",
  onSeek: seek,
});

async function drawChosen() {
  const chosen = getChosen();
  find("count").textContent =
    `${chosen.length} of ${timeline.persons.length} shown` + (data.more ? `; ${data.more} more are not in this page` : "");
  await chart.draw(chosen);
  showNow();
}

/** The K probabilities of a person in a bin, in thousandths, and whether they are mostly unsure; nothing where they are not seen. */
function getValues(person, bin) {
  const run = person.runs.find(([first, , unsure]) => bin >= first && bin < first + unsure.length);
  if (!run) return null;
  const at = bin - run[0];
  return { values: run[1].slice(at * labelCount, (at + 1) * labelCount), isUnsure: run[2][at] === 1 };
}

const MOST_WORDS = 8;

function showNow() {
  chart.show(now);
  slider.value = now;
  slider.setAttribute("aria-valuetext", formatClock(now, true));
  const bin = Math.min(getBin(timeline, now), Math.ceil((range[1] - timeline.start_s) / timeline.width_s) - 1);
  const time = document.createElement("strong");
  time.textContent = formatClock(now, true);
  const words = getChosen().flatMap((person) => {
    const seen = getValues(person, bin);
    if (!seen) return [];
    const highest = Math.max(...seen.values);
    const label = timeline.labels[seen.values.indexOf(highest)];
    const item = document.createElement("span");
    item.append(makeSwatch(label), `${nameOf(person)}: ${label}${seen.isUnsure ? "?" : ""} ${Math.round(highest / 10)}%`);
    return [item];
  });
  find("now").replaceChildren(time, ...words.slice(0, MOST_WORDS));
}

function seek(second) {
  now = second;
  if (!video.hidden) video.currentTime = second - range[0];
  showNow();
}

if (data.media) {
  video.hidden = false;
  video.addEventListener("error", () => {
    video.hidden = true;
    find("absent").hidden = false;
    find("absent").textContent = `${data.media} does not lie beside this page or cannot be played here: times are shown instead.`;
  });
  const follow = () => {
    now = Math.min(range[0] + video.currentTime, range[1]);
    showNow();
  };
  const followFrames = () => {
    follow();
    if (!video.paused && !video.ended) requestAnimationFrame(followFrames);
  };
  video.addEventListener("play", followFrames);
  for (const name of ["seeked", "timeupdate", "pause"]) video.addEventListener(name, follow);
  video.src = encodeURIComponent(data.media);
}
[slider.min, slider.max] = range;
slider.addEventListener("input", () => seek(Number(slider.value)));
find("whole").addEventListener("click", chart.showAll);
find("first").textContent = timeline.persons.length > data.first ? `First ${data.first}` : "All";
find("first").addEventListener(
  "click",
  choose((index) => index < data.first),
);
find("none").addEventListener(
  "click",
  choose(() => false),
);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart.draw());
drawChosen();
