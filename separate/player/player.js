// What is pressed: it changes the state, the gains and the engine follow, and the view shows it.

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
  live = rig(context, tracks);
  tracks = null;
  live = await live;
  order({ seek: state.position, tempo: state.tempo, loop: state.looping ? state.loop : null });
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
    if (pressed.drag) setLoop([pressed.at, at(event)], false);
  };
  lane.onpointerup = (event) => {
    if (pressed?.drag) setLoop(state.loop);
    else if (pressed) {
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
  if (target.type === "range" && target.id !== "seek" && /^(Arrow|Home|End|Page)/.test(key)) return; // the slider's own
  if (target.tagName === "BUTTON" && (key === " " || key === "Enter")) return; // the button's own
  const digit = /^Digit([1-9])$/.exec(event.code)?.[1]; // on some keyboards what is written there is + or −
  const action = KEYS[key.length > 1 ? key : key.toLowerCase()] ?? (digit && (() => toggle(digit - 1, event.shiftKey ? "solo" : "mute")));
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
  $("guide").oninput = () => {
    set(() => (state.guide = ($("guide").value / 100) ** 2));
    fill($("guide"));
  };
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
