// What is seen: rows of stems, and everything that shows the state.

function clock(samples) {
  const seconds = Math.floor(samples / data.rate);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

const decibels = (gain) => (gain > 0 ? `${(20 * Math.log10(gain)).toFixed(1).replace("-", "−")} dB` : "−∞ dB");
const panned = (pan) => (pan ? `${Math.round(Math.abs(pan) * 100)} % ${pan < 0 ? "left" : "right"}` : "centre");
const press = (button, pressed) => button.setAttribute("aria-pressed", pressed);
const fill = (input) => input.style.setProperty("--fill", `${((input.value - input.min) / (input.max - input.min)) * 100}%`);

// A row of the deck: names and knobs on the left, the picture on the right.
function strip(track, number) {
  const element = document.createElement("div");
  element.className = `strip c${track.colour}${track.voice ? " voice" : ""}`;
  element.innerHTML = `
    <div class="head" role="group">
      <div class="title"><span class="dot"></span><span class="name"></span>
        <button class="key mute" aria-pressed="false">M</button><button class="key solo" aria-pressed="false">S</button></div>
      <div class="knobs"><input class="volume" title="Volume" type="range" min="0" max="120" value="100">
        <input class="pan" title="Pan" type="range" min="-100" max="100" step="10" value="0"><span class="decibels" aria-hidden="true"></span></div>
    </div>
    <div class="lane"><canvas class="ahead"></canvas><canvas class="past"></canvas><img alt=""></div>`;
  const [name, mute, solo, volume, pan] = [".name", ".mute", ".solo", ".volume", ".pan"].map((q) => element.querySelector(q));
  name.textContent = name.title = track.name;
  element.querySelector(".head").setAttribute("aria-label", track.name);
  for (const [button, what] of [[mute, "Mute"], [solo, "Solo"]]) {
    button.setAttribute("aria-label", `${what} ${track.name}`);
    button.title = `${what}${number < 9 ? ` (${what === "Solo" ? "Shift+" : ""}${number + 1})` : ""}`;
    button.onclick = () => toggle(number, what.toLowerCase());
  }
  volume.setAttribute("aria-label", `Volume of ${track.name}`);
  pan.setAttribute("aria-label", `Pan of ${track.name}`);
  const change = (name, value) => set(() => (state.strips[number][name] = value));
  volume.oninput = () => change("volume", (volume.value / 100) ** 2);
  pan.oninput = () => change("pan", pan.value / 100);
  volume.ondblclick = () => change("volume", 1);
  pan.ondblclick = () => change("pan", 0);
  const picture = element.querySelector("img");
  picture.src = track.spectrogram;
  picture.style.width = `${track.spectrogramWidth * 100}%`;
  for (const [label, place] of data.hertz) {
    const mark = element.querySelector(".lane").appendChild(document.createElement("span"));
    mark.className = "hertz";
    mark.textContent = label;
    mark.style.top = `${100 - place * 100}%`;
  }
  return element;
}

// Bars from the middle, as high as the highest sample, and inside them brighter ones for the mean.
function draw(lane, track) {
  const peaks = bytesOf(track.peaks);
  const columns = peaks.length / 2;
  const density = Math.min(3, devicePixelRatio || 1);
  const [width, height] = [lane.clientWidth, lane.clientHeight];
  for (const canvas of lane.querySelectorAll("canvas")) {
    [canvas.width, canvas.height] = [width * density, height * density];
    const pen = canvas.getContext("2d");
    pen.scale(density, density);
    pen.fillStyle = getComputedStyle(lane).getPropertyValue("--c");
    const pitch = width > 600 ? 3 : 2.5;
    for (const [row, strength] of [[0, 0.5], [1, 1]]) {
      pen.globalAlpha = strength;
      pen.beginPath();
      for (let x = 0; x < width; x += pitch) {
        const first = Math.floor((x / width / track.peaksWidth) * columns);
        const last = Math.max(first + 1, Math.floor(((x + pitch) / width / track.peaksWidth) * columns));
        let high = 0;
        for (let i = first; i < Math.min(last, columns); i++) high = Math.max(high, peaks[2 * i + row]);
        const half = Math.max(0.5, (high / 255) * (height / 2 - 5));
        (pen.roundRect ?? pen.rect).call(pen, x, height / 2 - half, pitch - 1, 2 * half, (pitch - 1) / 2);
      }
      pen.fill();
    }
  }
}

function drawRuler() {
  const ruler = $("ruler");
  const seconds = data.frames / data.rate;
  const step = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600].find((s) => (s / seconds) * ruler.clientWidth > 62) ?? 1200;
  ruler.querySelectorAll("span").forEach((mark) => mark.remove());
  for (let at = 0; at < seconds; at += step) {
    if (at / seconds > 1 - 36 / ruler.clientWidth) break; // no room for its figures
    const mark = ruler.appendChild(document.createElement("span"));
    mark.style.left = `${(at / seconds) * 100}%`;
    mark.textContent = clock(at * data.rate);
  }
}

const strips = data.tracks.map(strip);
deck.append(...strips);

function redraw() {
  drawRuler();
  strips.forEach((element, number) => draw(element.querySelector(".lane"), data.tracks[number]));
}

// Everything but what moves by itself.
function show() {
  const { loop } = state;
  press($("karaoke"), state.karaoke);
  root.classList.toggle("karaoke", state.karaoke);
  $("stage").hidden = !state.karaoke;
  root.classList.toggle("playing", state.playing);
  $("play").setAttribute("aria-label", state.playing ? "Pause" : "Play");
  deck.classList.toggle("looped", Boolean(loop));
  deck.classList.toggle("looping", state.looping);
  if (loop) ["--a", "--b"].forEach((name, end) => deck.style.setProperty(name, loop[end] / data.frames));
  press($("loop"), state.looping);
  press($("from"), Boolean(loop) && loop[0] > 0);
  press($("to"), Boolean(loop) && loop[1] < data.frames);
  $("tempo").value = Math.round(state.tempo * 100);
  $("tempo-value").textContent = `${Math.round(state.tempo * 100)} %`;
  fill($("tempo"));
  for (const button of $("source").children)
    press(button, (button.dataset.source === "original") === state.original);
  const heard = gains();
  strips.forEach((element, number) => {
    const { volume, pan, mute, solo } = state.strips[number];
    const [level, side] = [element.querySelector(".volume"), element.querySelector(".pan")];
    press(element.querySelector(".mute"), mute);
    press(element.querySelector(".solo"), solo);
    element.classList.toggle("silent", heard[number] === 0 && !state.original);
    [level.value, side.value] = [Math.sqrt(volume) * 100, pan * 100];
    level.setAttribute("aria-valuetext", decibels(volume));
    side.setAttribute("aria-valuetext", panned(pan));
    element.querySelector(".decibels").textContent = decibels(volume);
    fill(level);
    if (!state.playing) element.style.setProperty("--level", 0);
  });
  move();
}

// What moves while it plays.
function move() {
  let position = state.position;
  if (state.playing) position += Math.min(0.1, (performance.now() - heardAt) / 1000) * data.rate * state.tempo;
  position = clamp(position, 0, data.frames);
  root.style.setProperty("--at", position / data.frames);
  const [now, total] = [clock(position), clock(data.frames)];
  if ($("time").dataset.now !== now) {
    $("time").dataset.now = now;
    $("time").innerHTML = `${now} <small>/ ${total}</small>`;
    document.querySelector(".now").textContent = now;
    $("seek").setAttribute("aria-valuetext", `${now} of ${total}`);
  }
  if (!$("seek").matches(":active")) $("seek").value = position / data.rate;
  fill($("seek"));
}

const samples = new Float32Array(512);
function animate() {
  if (state.playing && live?.strips) {
    move();
    strips.forEach((element, number) => {
      live.strips[number].meter.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      element.style.setProperty("--level", Math.min(1, Math.sqrt(power) * 4).toFixed(3));
    });
  }
  requestAnimationFrame(animate);
}
