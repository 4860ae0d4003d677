(() => {
  const at = id => document.getElementById(id);
  const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const video = at("video"), plot = at("plot"), slider = at("slider"), ROW = 96, GAP = 26;
  const clock = seconds => {
    const tenths = Math.floor(seconds * 10 + 1e-6);
    const minutes = Math.floor(tenths / 600);
    const rest = `${String(Math.floor(tenths / 10) % 60).padStart(2, "0")}.${tenths % 10}`;
    return minutes < 60 ? `${minutes}:${rest}` : `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
  };
  const brief = seconds => clock(seconds).replace(/\.\d$/, "");
  const timeOf = bin => DATA.origin + bin * DATA.width;
  let now = DATA.start;

  // bin -> the K values of a person, for the words above the plot
  DATA.persons.forEach(person => {
    person.at = new Map();
    person.unsure = new Set();
    person.runs.forEach(([start, values, unsure]) => {
      unsure.forEach((is, bin) => is && person.unsure.add(start + bin));
      for (let bin = 0; bin * DATA.labels.length < values.length; bin++)
        person.at.set(start + bin, values.slice(bin * DATA.labels.length, (bin + 1) * DATA.labels.length));
    });
  });

  DATA.labels.forEach((label, k) => {
    const item = document.createElement("li"), swatch = document.createElement("i");
    swatch.className = "swatch";
    swatch.style.background = DATA.colors[k];
    item.append(swatch, label);
    at("legend").append(item);
  });
  const boxes = DATA.persons.map((person, index) => {
    const [label, box, name, words] = ["label", "input", "b", "small"].map(kind => document.createElement(kind));
    box.type = "checkbox";
    box.checked = index < DATA.first;
    box.addEventListener("change", draw);
    name.textContent = `person ${person.number}`;
    words.textContent = `${person.seen < 60 ? clock(person.seen) : brief(person.seen)} on screen, ${person.mostly}`;
    label.append(box, name, words);
    at("chooser").append(label);
    return box;
  });
  const choose = test => () => { boxes.forEach((box, index) => { box.checked = test(index); }); draw(); };
  const chosen = () => DATA.persons.filter((_, index) => boxes[index].checked);

  // k < 0: where it is mostly unsure
  function steps(person, k) {
    const x = [], y = [], K = DATA.labels.length;
    if (!person.runs.length || timeOf(person.runs[0][0]) > DATA.start) { x.push(DATA.start); y.push(0); }
    person.runs.forEach(([start, values, unsure]) => {
      const bins = values.length / K;
      for (let bin = 0; bin < bins; bin++) { x.push(timeOf(start + bin)); y.push(k < 0 ? unsure[bin] : values[bin * K + k] / 1000); }
      x.push(timeOf(start + bins));
      y.push(0);  // a gap: nothing is stacked until the person is seen again
    });
    return { x, y };
  }

  function draw() {
    const persons = chosen(), rows = Math.max(persons.length, 1), height = rows * ROW + (rows - 1) * GAP;
    const ink = style("--text"), line = style("--line"), pale = `${style("--back")}99`, traces = [], annotations = [];
    const before = plot.layout && plot.layout.xaxis && plot.layout.xaxis.range;
    const layout = {
      height: height + 74, margin: { l: 34, r: 12, t: 26, b: 48 }, showlegend: false, hovermode: "x", hoverdistance: -1,
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom", paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: ink, size: 12 }, annotations,
      xaxis: { range: before ? before.slice() : [DATA.start, DATA.end], minallowed: DATA.start, maxallowed: DATA.end, anchor: rows > 1 ? `y${rows}` : "y",
        showgrid: false, zeroline: false, linecolor: line, tickcolor: line, ticks: "outside", nticks: innerWidth < 600 ? 5 : 10,
        title: { text: DATA.end < 3600 ? "minutes:seconds" : "hours:minutes:seconds", font: { size: 12 } } },
    };
    for (let row = 0; row < rows; row++) {
      const suffix = row ? String(row + 1) : "", top = 1 - row * (ROW + GAP) / height;
      layout[`yaxis${suffix}`] = { domain: [Math.max(0, top - ROW / height), top], range: [0, 1], fixedrange: true, anchor: "x",
        tickvals: [0, 0.5, 1], showgrid: false, zeroline: false, linecolor: line, tickcolor: line, ticks: "outside" };
      if (DATA.cuts.length) traces.push({ type: "scatter", mode: "lines", hoverinfo: "skip", yaxis: `y${suffix}`, name: "cut",
        x: DATA.cuts.flatMap(cut => [cut, cut, null]), y: DATA.cuts.flatMap(() => [0, 1, null]),
        line: { color: ink, width: 0.8, dash: "dot" } });
      const person = persons[row];
      annotations.push({ xref: "paper", yref: "paper", x: 0, y: top, xanchor: "left", yanchor: "bottom", showarrow: false,
        text: person ? `person ${person.number}` : DATA.persons.length ? "choose a person above" : "no face was seen" });
      if (!person) continue;
      const areas = DATA.labels.map((label, k) => ({ type: "scatter", mode: "lines", stackgroup: `s${row}`, name: label, hoverinfo: "none",
        yaxis: `y${suffix}`, ...steps(person, k), line: { width: 0, shape: "hv", color: DATA.colors[k] }, fillcolor: DATA.colors[k] }));
      if (person.runs.some(([, , unsure]) => unsure.includes(1)))
        areas.push({ type: "scatter", mode: "lines", fill: "tozeroy", name: "unsure", hoverinfo: "none", yaxis: `y${suffix}`,
          ...steps(person, -1), line: { width: 0, shape: "hv" }, fillcolor: pale });
      traces.splice(traces.length - (DATA.cuts.length ? 1 : 0), 0, ...areas);  // cuts lie over the areas
    }
    ticks(layout.xaxis);
    Plotly.react(plot, traces, layout, { responsive: true, displayModeBar: false, doubleClick: "reset" }).then(() => {
      plot.removeAllListeners("plotly_click");
      plot.removeAllListeners("plotly_relayout");
      plot.on("plotly_click", event => go(timeAt(event.event.clientX)));
      plot.on("plotly_relayout", change => {
        if (Object.keys(change).some(key => key.startsWith("xaxis.range") || key === "xaxis.autorange")) {
          const range = plot.layout.xaxis.autorange ? [DATA.start, DATA.end] : plot.layout.xaxis.range.slice();
          const axis = { range };
          ticks(axis);
          Plotly.relayout(plot, { "xaxis.tickvals": axis.tickvals, "xaxis.ticktext": axis.ticktext, ...(plot.layout.xaxis.autorange
            ? { "xaxis.range": range, "xaxis.autorange": false } : {}) });
        }
        mark();
      });
      mark();
    });
    at("count").textContent = `${persons.length} of ${DATA.persons.length} shown` + (DATA.more ? `; ${DATA.more} more are not in this page` : "");
  }

  // whole seconds and minutes where that is fine enough
  function ticks(axis) {
    const [from, to] = axis.range, many = innerWidth < 600 ? 4 : 9;
    const sizes = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 18000, 36000];
    const size = sizes.find(each => (to - from) / each <= many) || 86400;
    axis.tickvals = [];
    for (let tick = Math.ceil(from / size - 1e-6); tick * size <= to + 1e-6; tick++) axis.tickvals.push(tick * size);
    axis.ticktext = axis.tickvals.map(value => size < 1 ? clock(value) : brief(value));
  }

  const area = () => plot.querySelector(".nsewdrag");
  function timeAt(clientX) {
    const place = area().getBoundingClientRect(), [from, to] = plot.layout.xaxis.range;
    return Math.min(Math.max(from + (clientX - place.left) / place.width * (to - from), DATA.start), DATA.end);
  }
  function put(line, time) {
    if (!area()) return;
    const place = area().getBoundingClientRect(), [from, to] = plot.layout.xaxis.range;
    line.style.display = time >= from && time <= to ? "block" : "none";
    line.style.left = place.left - at("board").getBoundingClientRect().left + (time - from) / (to - from) * place.width - 1 + "px";
  }
  function mark() {
    put(at("pointer"), now);
    slider.value = now;
    slider.setAttribute("aria-valuetext", clock(now));
    const bin = Math.min(Math.floor((now - DATA.origin) / DATA.width + 1e-6), Math.ceil((DATA.end - DATA.origin) / DATA.width) - 1), time = document.createElement("strong");
    time.textContent = clock(now);
    at("now").replaceChildren(time, ...chosen().filter(person => person.at.has(bin)).slice(0, 8).map(person => {
      const values = person.at.get(bin), k = values.indexOf(Math.max(...values)), words = document.createElement("span");
      const swatch = document.createElement("i");
      swatch.className = "swatch";
      swatch.style.background = DATA.colors[k];
      words.append(swatch, `person ${person.number}: ${DATA.labels[k]}${person.unsure.has(bin) ? "?" : ""} ${Math.round(values[k] / 10)}%`);
      return words;
    }));
  }
  function go(time) {
    now = time;
    if (!video.hidden) video.currentTime = time - DATA.start;
    mark();
  }

  if (DATA.media) {
    video.hidden = false;
    video.addEventListener("error", () => {
      video.hidden = true;
      at("absent").hidden = false;
      at("absent").textContent = `${DATA.media} does not lie beside this page or cannot be played here: times are shown instead.`;
    });
    const follow = () => { now = Math.min(DATA.start + video.currentTime, DATA.end); mark(); };
    const run = () => { follow(); if (!video.paused && !video.ended) requestAnimationFrame(run); };
    video.addEventListener("play", run);
    ["seeked", "timeupdate", "pause"].forEach(name => video.addEventListener(name, follow));
    video.src = encodeURIComponent(DATA.media);
  }
  slider.min = DATA.start;
  slider.max = DATA.end;
  slider.addEventListener("input", () => go(Number(slider.value)));
  at("board").addEventListener("mousemove", event => {
    const place = area() && area().getBoundingClientRect();
    if (place && event.clientX >= place.left && event.clientX <= place.right) put(at("ghost"), timeAt(event.clientX));
    else at("ghost").style.display = "none";
  });
  at("board").addEventListener("mouseleave", () => { at("ghost").style.display = "none"; });
  at("whole").addEventListener("click", () => Plotly.relayout(plot, { "xaxis.range": [DATA.start, DATA.end] }));
  at("first").textContent = DATA.persons.length > DATA.first ? `First ${DATA.first}` : "All";
  at("first").addEventListener("click", choose(index => index < DATA.first));
  at("none").addEventListener("click", choose(() => false));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", () => requestAnimationFrame(mark));
  draw();
})();
