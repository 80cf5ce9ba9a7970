// The page: what is pressed becomes state, state becomes gains and orders to the engine, and what is seen.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const root = document.documentElement;
const deck = $("deck");

const state = {
  playing: false,
  position: 0, // samples
  tempo: 1,
  loop: null, // [first, end], in samples
  looping: false,
  original: false,
  karaoke: false,
  guide: 0,
  strips: data.tracks.map(() => ({ volume: 1, pan: 0, mute: false, solo: false })),
};
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const all = data.original ? [...data.tracks, data.original] : data.tracks;

function bytesOf(base64) {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// -- sound ------------------------------------------------------------------------------------------------------------

// Where the chirp is: what decoders put in front of a song differs, the distance from the chirp to the song does not.
function chirpAt(sound) {
  const { start, length, first, last } = data.chirp;
  const chirp = Float32Array.from({ length }, (_, i) => {
    const phase = 2 * Math.PI * (first * i + ((last - first) / (2 * length)) * i * i);
    return Math.sin((Math.PI * (i + 0.5)) / length) ** 2 * Math.sin(phase);
  });
  let [found, highest] = [start, 0];
  for (let shift = 0; shift < data.lead - length; shift++) {
    let product = 0;
    for (let i = 0; i < length; i++) product += chirp[i] * sound[shift + i];
    if (product > highest) [found, highest] = [shift, product];
  }
  return found;
}

// One track as 16 bit integers of its own scale: half the memory of what browsers decode to.
async function decoded(number) {
  const { buffer: file } = bytesOf($(`sound-${number}`).textContent);
  const buffer = await new OfflineAudioContext(2, 1, data.rate).decodeAudioData(file);
  const heard = Array.from({ length: buffer.numberOfChannels }, (_, channel) => buffer.getChannelData(channel));
  const start = chirpAt(heard[0]) - data.chirp.start + data.lead;
  let scale = 1e-9;
  for (const sound of heard) for (let i = start; i < sound.length; i++) scale = Math.max(scale, Math.abs(sound[i]));
  const channels = heard.map((sound) => {
    const samples = new Int16Array(data.frames); // what is missing at the end is silence
    const length = Math.min(data.frames, sound.length - start);
    const factor = 32767 / scale;
    for (let i = 0; i < length; i++) samples[i] = Math.floor(sound[start + i] * factor + 0.5);
    return samples;
  });
  return { scale: scale / 32767, channels };
}

async function decodedAll(say) {
  const tracks = [];
  for (let number = 0; number < all.length; number++) {
    say(`Decoding ${number + 1} of ${all.length} …`);
    tracks.push(await decoded(number));
  }
  return tracks;
}

// Engine -> gain, pan, meter of each track -> out. Also built by the tests, in a context that renders to memory.
async function rig(context, tracks, orders = {}) {
  const load = { tracks, frames: data.frames, matched: data.tracks.length };
  const make = (await hasEngine(context)) ? workletOutputs : scriptOutputs;
  const outputs = await make(context, { load, ...orders });
  const strips = tracks.map((_, number) => {
    const [gain, pan, meter] = [context.createGain(), context.createStereoPanner(), context.createAnalyser()];
    meter.fftSize = 512;
    outputs.connect(number, gain);
    gain.connect(pan).connect(meter).connect(context.destination);
    return { gain: gain.gain, pan: pan.pan, meter };
  });
  const mixed = { context, strips, order: outputs.order };
  mix(mixed, true);
  return mixed;
}

// Bring the engine to the thread of sound. Pages from plain http have none, and browsers differ in what they load there.
async function hasEngine(context) {
  const source = $("engine").textContent;
  const blob = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  for (const address of [`data:text/javascript,${encodeURIComponent(source)}`, blob]) {
    const loaded = context.audioWorklet?.addModule(address).then(() => true, () => false);
    if (await loaded) return true;
  }
  return false;
}

async function workletOutputs(context, orders) {
  const count = orders.load.tracks.length;
  const options = { numberOfInputs: 0, numberOfOutputs: count, outputChannelCount: Array(count).fill(2) };
  const node = new AudioWorkletNode(context, "separate-engine", options);
  const sound = orders.load.tracks.flatMap((track) => track.channels.map((samples) => samples.buffer));
  const ready = new Promise((resolve) => (node.port.onmessage = resolve));
  node.port.postMessage(orders, sound);
  await ready;
  node.port.onmessage = ({ data }) => told(data);
  return { connect: (number, to) => node.connect(to, number), order: (order) => node.port.postMessage(order) };
}

// The same engine, in this thread.
function scriptOutputs(context, orders) {
  const count = orders.load.tracks.length;
  const engine = new Engine(context.sampleRate);
  const node = context.createScriptProcessor(2048, 0, 2 * count);
  const splitter = context.createChannelSplitter(2 * count);
  node.onaudioprocess = ({ outputBuffer }) => {
    const channel = (number) => outputBuffer.getChannelData(number);
    const ended = engine.render(Array.from({ length: count }, (_, i) => [channel(2 * i), channel(2 * i + 1)]));
    told({ position: engine.position, playing: engine.playing, ended });
  };
  engine.obey(orders);
  node.connect(splitter);
  const connect = (number, to) => {
    const merger = context.createChannelMerger(2);
    splitter.connect(merger, 2 * number, 0);
    splitter.connect(merger, 2 * number + 1, 1);
    merger.connect(to);
  };
  return { connect, order: (order) => engine.obey(order) };
}

// The gain of every track, as all the buttons together want it.
function gains() {
  const solo = state.strips.some((strip) => strip.solo);
  const stems = state.strips.map(({ volume, mute, solo: alone }, number) => {
    if (state.karaoke) return data.tracks[number].voice ? state.guide : volume;
    if (state.original || (solo ? !alone : mute)) return 0;
    return volume;
  });
  return data.original ? [...stems, state.original && !state.karaoke ? 1 : 0] : stems;
}

function mix({ context, strips }, atOnce = false) {
  gains().forEach((gain, number) => {
    const pan = state.strips[number]?.pan ?? 0;
    for (const [parameter, value] of [[strips[number].gain, gain], [strips[number].pan, pan]])
      if (atOnce) parameter.value = value;
      else parameter.setTargetAtTime(value, context.currentTime, 0.012);
  });
}

// -- playing ----------------------------------------------------------------------------------------------------------

let tracks = null; // decoded, until the engine has them
let live = null; // the rig
let heardAt = 0; // when the engine last told its position

function told({ position, playing, ended }) {
  state.position = position;
  heardAt = performance.now();
  if (ended) setPlaying(false);
  else if (!playing) move();
}

async function start() {
  const context = new AudioContext({ sampleRate: data.rate });
  context.resume(); // while this still is the user's gesture
  const { position: seek, tempo } = state;
  live = rig(context, tracks, { seek: Math.round(seek), tempo, loop: state.looping ? state.loop : null });
  tracks = null;
  live = await live;
}

async function setPlaying(playing) {
  if (!tracks && !live) return;
  state.playing = playing;
  show();
  if (!live && playing) await start();
  live = await live;
  if (!live) return;
  live.order({ play: state.playing });
  heardAt = performance.now();
  if (state.playing) live.context.resume();
  else setTimeout(() => state.playing || live.context.suspend(), 200); // when it has faded out
}

function order(command) {
  if (live?.order) live.order(command);
}

function seek(position) {
  state.position = clamp(position, 0, data.frames - 1);
  order({ seek: state.position });
  show();
}

function setTempo(percent) {
  state.tempo = clamp(Math.round(percent), 50, 150) / 100;
  order({ tempo: state.tempo });
  show();
}

function setLoop(loop, looping = true) {
  const least = data.rate / 20;
  if (loop) loop = loop.map((end) => clamp(Math.round(end), 0, data.frames)).sort((one, other) => one - other);
  if (loop && loop[1] - loop[0] < least) loop = [loop[0], Math.min(data.frames, loop[0] + least)];
  state.loop = loop;
  state.looping = Boolean(loop) && looping;
  order({ loop: state.looping ? state.loop : null });
  if (state.looping && (state.position < loop[0] || state.position >= loop[1])) seek(loop[0]);
  show();
}

function set(change, words) {
  change();
  if (live?.strips) mix(live);
  show();
  if (words) $("said").textContent = words();
}

const toggleOriginal = () =>
  data.original && set(() => (state.original = !state.original), () => (state.original ? "Original" : "Stems"));
const toggleKaraoke = () =>
  data.tracks.some((track) => track.voice) &&
  set(() => (state.karaoke = !state.karaoke), () => `Karaoke ${state.karaoke ? "on" : "off"}`);
const toggle = (number, what) =>
  state.strips[number] &&
  set(() => (state.strips[number][what] = !state.strips[number][what]),
    () => `${data.tracks[number].name}: ${what} ${state.strips[number][what] ? "on" : "off"}`);

// -- what is seen -----------------------------------------------------------------------------------------------------

function clock(samples, digits = 0) {
  const seconds = Math.floor((samples / data.rate) * 10 ** digits) / 10 ** digits;
  return `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0")}`;
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
      <div class="knobs"><input class="volume" type="range" min="0" max="120" value="100">
        <input class="pan" type="range" min="-100" max="100" value="0"><span class="decibels" aria-hidden="true"></span></div>
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
  pan.oninput = () => change("pan", Math.abs(pan.value) < 6 ? 0 : pan.value / 100);
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
    const [pitch, span] = [width > 600 ? 3 : 2.5, columns * track.peaksWidth];
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

// -- what is pressed --------------------------------------------------------------------------------------------------

function point(lane) {
  const cursor = document.createElement("div");
  const region = document.createElement("div");
  [cursor.className, region.className] = ["cursor", "region"];
  lane.append(region, cursor);
  const at = (event) => {
    const { left, width } = lane.getBoundingClientRect();
    return (clamp(event.clientX - left, 0, width) / width) * data.frames;
  };
  let pressed = null;
  lane.onpointerdown = (event) => {
    if (event.button !== 0) return;
    pressed = { x: event.clientX, at: at(event), drag: false };
    if (event.pointerType !== "touch") lane.setPointerCapture(event.pointerId);
  };
  lane.onpointermove = (event) => {
    if (!pressed || event.pointerType === "touch") return;
    pressed.drag ||= Math.abs(event.clientX - pressed.x) > 6;
    if (pressed.drag) setLoop([pressed.at, at(event)]);
  };
  lane.onpointerup = (event) => {
    if (pressed && !pressed.drag) {
      if (state.looping && (at(event) < state.loop[0] || at(event) >= state.loop[1])) setLoop(state.loop, false);
      seek(at(event));
    }
    pressed = null;
  };
  lane.onpointercancel = () => (pressed = null);
}

function setView(view) {
  deck.classList.toggle("spectrum", view === "spectrum");
  for (const button of $("view").children) press(button, button.dataset.view === view);
}

const toggleView = () => setView(deck.classList.contains("spectrum") ? "wave" : "spectrum");
const toggleTheme = () => {
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  redraw();
};
const loopFrom = () => setLoop([state.position, state.loop && state.loop[1] > state.position ? state.loop[1] : data.frames]);
const loopTo = () => setLoop([state.loop && state.loop[0] < state.position ? state.loop[0] : 0, state.position]);
const toggleLoop = () => setLoop(state.loop ?? [0, data.frames], !state.looping);
const move5 = (event, way) => seek(state.position + way * (event.shiftKey ? 1 : 5) * data.rate);

const KEYS = {
  " ": () => setPlaying(!state.playing),
  ArrowLeft: (event) => move5(event, -1),
  ArrowRight: (event) => move5(event, 1),
  Home: () => seek(0),
  a: loopFrom, b: loopTo, l: toggleLoop, o: toggleOriginal, s: toggleView, k: toggleKaraoke, t: toggleTheme,
  "-": () => setTempo(state.tempo * 100 - 5), "+": () => setTempo(state.tempo * 100 + 5),
  "=": () => setTempo(state.tempo * 100 + 5), 0: () => setTempo(100),
  "?": () => $("keys").showModal(),
};

document.onkeydown = (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $("keys").open) return;
  const { target, key } = event;
  if (target.type === "range" && /^(Arrow|Home|End|Page)/.test(key)) return; // the slider's own
  if (target.tagName === "BUTTON" && (key === " " || key === "Enter")) return; // the button's own
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1];
  const action = digit ? () => toggle(digit - 1, event.shiftKey ? "solo" : "mute") : KEYS[key.length > 1 ? key : key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action(event);
};

function wire() {
  document.querySelectorAll(".lane").forEach(point);
  $("play").onclick = () => setPlaying(!state.playing);
  $("back").onclick = () => seek(state.looping ? state.loop[0] : 0);
  $("seek").max = data.frames / data.rate;
  $("seek").oninput = () => seek($("seek").value * data.rate);
  $("tempo").oninput = () => setTempo($("tempo").value);
  $("tempo-value").onclick = () => setTempo(100);
  [$("from").onclick, $("to").onclick, $("loop").onclick] = [loopFrom, loopTo, toggleLoop];
  $("karaoke").onclick = toggleKaraoke;
  $("karaoke").hidden = !data.tracks.some((track) => track.voice);
  $("guide").oninput = () => set(() => (state.guide = ($("guide").value / 100) ** 2)) || fill($("guide"));
  // A button that was clicked gives the space bar back.
  document.querySelectorAll("button").forEach((button) => button.addEventListener("click", (event) => event.detail && button.blur()));
  [$("theme").onclick, $("help").onclick] = [toggleTheme, () => $("keys").showModal()];
  $("source").hidden = !data.original;
  for (const button of $("source").children)
    button.onclick = () => (button.dataset.source === "original") !== state.original && toggleOriginal();
  for (const button of $("view").children) button.onclick = () => setView(button.dataset.view);
  new ResizeObserver(redraw).observe(deck);
}

wire();
show();
requestAnimationFrame(animate);

const ready = new Promise((resolve, reject) => {
  document.addEventListener("DOMContentLoaded", async () => {
    try {
      tracks = await decodedAll((words) => ($("time").textContent = words));
      all.forEach((_, number) => $(`sound-${number}`).remove());
      $("play").disabled = false;
      delete $("time").dataset.now;
      show();
      resolve();
    } catch (error) {
      $("time").textContent = `This browser cannot decode the sound: ${error.message}`;
      reject(error);
    }
  });
});
