// The engine: reads all tracks at one position, so that they cannot drift apart, and stretches time.
//
// Sound is made of grains. Each begins where the tempo wants it, moved a little to where the waveform goes on best from
// the one before (WSOLA), and is faded in while the one before would go on and is faded out. The place is chosen once
// for all tracks. At tempo 1 a grain begins exactly where the one before ends, and nothing is changed.
//
// This text runs twice: in the page, and in the thread of an AudioWorklet.

class Engine {
  constructor(rate) {
    this.rate = rate;
    this.size = Math.round(rate / 43); // of a grain, in samples
    this.reach = this.size >> 1; // how far a grain may be moved
    this.fade = Float32Array.from({ length: this.size }, (_, i) => Math.sin((Math.PI / 2) * ((i + 0.5) / this.size)) ** 2);
    this.tracks = []; // {scale, channels: [Int16Array, Int16Array]}; the first `matched` decide where grains go
    this.matched = 0;
    this.frames = 0;
    this.tempo = 1;
    this.loop = null; // [first, end], in samples
    this.playing = false;
    this.level = 0; // fades out before a pause and in after it
    this.jump(0);
  }

  load({ tracks, frames, matched }) {
    Object.assign(this, { tracks, frames, matched });
  }

  // Forget what was playing and begin at a place.
  jump(position) {
    this.before = this.start = this.nominal = position; // where the last grain goes on, this one begins, it should
    this.at = this.length = 0; // how much of the grain is done, and its length
    this.wanted = null;
  }

  // Go to a place: at once when nothing sounds, else at the end of this grain, without a click.
  seek(position) {
    position = Math.max(0, Math.min(Math.round(position), this.frames - 1));
    if (this.level === 0) this.jump(position);
    else this.wanted = position;
  }

  get position() {
    return this.wanted ?? this.start + this.at;
  }

  // Fill outputs[track][channel] with the next samples; returns whether the song has just ended.
  render(outputs) {
    const length = outputs[0][0].length;
    let done = 0;
    while (done < length && (this.playing || this.level > 0) && this.tracks.length) {
      if (this.at === this.length && !this.next()) break;
      const count = Math.min(length - done, this.length - this.at);
      for (let track = 0; track < outputs.length; track++)
        outputs[track].forEach((out, channel) => this.copy(track, channel, out, done, count));
      this.ramp(outputs, done, count);
      this.at += count;
      done += count;
    }
    for (const output of outputs) for (const out of output) out.fill(0, done);
    if (this.level === 0 && this.wanted !== null) this.jump(this.wanted);
    const ended = this.playing && done < length && this.tracks.length > 0;
    if (ended) {
      this.playing = false;
      this.level = 0;
      this.jump(this.loop ? this.loop[0] : 0);
    }
    return ended;
  }

  copy(track, channel, out, offset, count) {
    const { scale, channels } = this.tracks[track];
    const sound = channels[channel % channels.length];
    const plain = this.start === this.before;
    for (let i = 0; i < count; i++) {
      const at = this.at + i;
      const now = sound[this.start + at] || 0; // nothing behind the end
      const share = this.fade[at];
      out[offset + i] = scale * (plain ? now : share * now + (1 - share) * (sound[this.before + at] || 0));
    }
  }

  ramp(outputs, offset, count) {
    const [goal, step] = [this.playing ? 1 : 0, 1 / 512];
    if (this.level === goal) return;
    for (let i = offset; i < offset + count; i++) {
      this.level = goal ? Math.min(1, this.level + step) : Math.max(0, this.level - step);
      for (const output of outputs) for (const out of output) out[i] *= this.level;
    }
  }

  // Choose the next grain; returns whether there is one.
  next() {
    const [first, end] = this.loop ?? [0, Infinity];
    this.before = this.start + this.length;
    this.nominal += this.length * this.tempo;
    if (this.wanted !== null) this.nominal = this.start = this.wanted;
    else if (this.tempo === 1) this.nominal = this.start = this.before;
    else this.start = this.match(Math.round(this.nominal));
    this.wanted = null;
    if (this.nominal >= end) {
      this.nominal = this.nominal - end < this.size * 2 ? first + this.nominal - end : first;
      this.start = Math.round(this.nominal);
    }
    this.at = 0;
    // At tempo 1 a loop ends on the very sample.
    this.length = this.tempo === 1 ? Math.min(this.size, end - this.start) : this.size;
    return this.start < this.frames;
  }

  // Find where, near a place, the sum of all stems is most like what would come now.
  match(place) {
    const [size, reach] = [this.size, this.reach];
    const low = Math.max(0, place - reach);
    const wanted = this.sum(this.before, size);
    const near = this.sum(low, size + 2 * reach);
    const coarse = this.best(thin(wanted), thin(near), 0, reach >> 1);
    return low + this.best(wanted, near, Math.max(0, 4 * coarse - 4), Math.min(2 * reach, 4 * coarse + 4));
  }

  sum(start, length) {
    const out = new Float32Array(length);
    for (const { scale, channels } of this.tracks.slice(0, this.matched))
      for (const sound of channels) for (let i = 0; i < length; i++) out[i] += scale * (sound[start + i] || 0);
    return out;
  }

  // The shift, from `first` to `last`, at which `near` correlates best with `wanted`.
  best(wanted, near, first, last) {
    let [found, highest] = [(first + last) >> 1, 0];
    let energy = 1e-9;
    for (let i = first; i < first + wanted.length; i++) energy += near[i] ** 2;
    for (let shift = first; shift <= last; shift++) {
      let product = 0;
      for (let i = 0; i < wanted.length; i++) product += wanted[i] * near[shift + i];
      const score = product / Math.sqrt(energy);
      if (score > highest) [found, highest] = [shift, score];
      energy += (near[shift + wanted.length] || 0) ** 2 - near[shift] ** 2;
      energy = Math.max(energy, 1e-9);
    }
    return found;
  }

  // What the page asks for.
  obey(order) {
    if ("load" in order) this.load(order.load);
    if ("tempo" in order) this.tempo = order.tempo;
    if ("loop" in order) this.loop = order.loop;
    if ("seek" in order) this.seek(order.seek);
    if ("play" in order) this.playing = order.play;
  }
}

// A quarter of the samples: means of four.
function thin(sound) {
  return Float32Array.from({ length: sound.length >> 2 }, (_, i) => {
    i *= 4;
    return (sound[i] + sound[i + 1] + sound[i + 2] + sound[i + 3]) / 4;
  });
}

if (globalThis.registerProcessor)
  registerProcessor(
    "separate-engine",
    class extends AudioWorkletProcessor {
      constructor() {
        super();
        this.engine = new Engine(sampleRate);
        this.blocks = 0;
        this.port.onmessage = ({ data }) => {
          this.engine.obey(data);
          this.tell(false);
        };
      }

      process(_, outputs) {
        const ended = this.engine.render(outputs);
        if (ended || (this.engine.playing && this.blocks++ % 8 === 0)) this.tell(ended);
        return true;
      }

      tell(ended) {
        this.port.postMessage({ position: this.engine.position, playing: this.engine.playing, ended });
      }
    },
  );
