// The state of the page, and its sound: tracks are decoded, the engine plays them, gains follow the state.
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
