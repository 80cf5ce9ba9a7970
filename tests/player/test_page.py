"""The page in a real browser: what it plays is measured in samples that its own graph renders."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from separate.player.files import write
from separate.player.folder import songs_in
from tests.player.browser import Browser, Tab
from tests.player.conftest import RATE, tone, write_stems

TONES = {"vocals": 440.0, "drums": 1000.0, "bass": 110.0}
EVIL = "</script><img src=x onerror=alert(1)>\"'&amp;{{data}}"

# Renders what the page would play, with the page's own graph and engine: `tap` takes each track before the mix.
RENDER = """
async ({ seconds, orders, tap, starts, length }) => {
  await ready;
  const count = tap ? all.length : 2;
  const context = new OfflineAudioContext(count, Math.round(seconds * data.rate), data.rate);
  const mixed = await rig(context, structuredClone(tracks), { play: true, ...orders });
  if (tap) {
    const merger = context.createChannelMerger(count);
    mixed.strips.forEach(({ meter }, number) => {
      meter.disconnect();
      const mono = context.createGain();
      [mono.channelCount, mono.channelCountMode] = [1, "explicit"];
      meter.connect(mono).connect(merger, 0, number);
    });
    merger.connect(context.destination);
  }
  const buffer = await context.startRendering();
  return Array.from({ length: count }, (_, channel) => {
    const heard = starts.map((start) => [...buffer.getChannelData(channel).subarray(start, start + length)]);
    const bytes = new Uint8Array(new Float32Array(heard.flat()).buffer);
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    return btoa(text);
  });
}
"""


# How loud every track is now, at its meter.
METERS = """
live?.strips?.map(({ meter }) => {
  meter.getFloatTimeDomainData(samples);
  return Math.hypot(...samples);
})
"""


def until(tab: Tab, condition: str) -> None:
    """Wait until something is so in the page."""
    tab.run(f"new Promise((done) => {{ const wait = () => ({condition} ? done() : setTimeout(wait, 20)); wait(); }})")


def render(tab: Tab, seconds: float, **options: Any) -> NDArray[np.float32]:
    """Render what the page would play now: (channel, time), or with `tap` (track, time); `starts` and `length` cut."""
    asked = {"seconds": seconds, "orders": {}, "tap": False, "starts": [0], "length": round(seconds * RATE)} | options
    channels = tab.run(f"({RENDER})({json.dumps(asked)})")
    return np.stack([np.frombuffer(b64decode(channel), np.float32) for channel in channels])


def level(samples: NDArray[np.float32], hertz: float) -> float:
    """Measure how much of a tone there is: its amplitude."""
    window = np.hanning(samples.shape[-1])
    wave = np.exp(-2j * np.pi * hertz * np.arange(samples.shape[-1]) / RATE)
    return float(2 * np.abs((samples * window * wave).sum()) / window.sum())


def levels(samples: NDArray[np.float32]) -> dict[str, float]:
    """Measure the tones of all stems in the left channel, of what is not faded in or out."""
    return {name: level(samples[0, 4000:-4000], hertz) for name, hertz in TONES.items()}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of three tones of three seconds, and their sum."""
    folder = write_stems(tmp_path_factory.mktemp("page") / "Song", {n: tone(hz, 3.0) for n, hz in TONES.items()})
    return write(songs_in(folder)[0], report_too=True)[0]


@pytest.fixture
def tab(browser: Browser, page: Path) -> Tab:
    opened = browser.open(page.as_uri())
    opened.run("ready")
    return opened


def test_plays_from_the_disk_without_requests_or_complaints(tab: Tab, page: Path) -> None:
    tab.press(" ", "Space")
    until(tab, "state.position > data.rate")
    heard = tab.run(METERS)
    assert all(level > 0.5 for level in heard[:3])
    assert heard[3] == 0  # the original waits
    tab.press(" ", "Space")
    until(tab, "live.context.state === 'suspended'")
    assert tab.complaints() == []
    assert {address.partition(":")[0] for address in tab.requests()} == {"file", "data"}
    assert [address for address in tab.requests() if address.startswith("file:")] == [page.as_uri()]


def test_what_is_asked_for_while_it_starts_counts(tab: Tab) -> None:
    tab.run("void setPlaying(true), seek(2 * data.rate), setTempo(50), toggle(0, 'mute')")
    until(tab, "live?.strips && state.position > 2.2 * data.rate")
    assert tab.run("state.position") < 2.6 * RATE
    assert tab.run("live.strips[0].gain.value") < 0.01


def test_at_the_end_it_stops_and_goes_back(tab: Tab) -> None:
    tab.run("seek(data.frames - data.rate / 4); setPlaying(true)")
    until(tab, "!state.playing")
    assert tab.run("state.position") == 0
    assert tab.run("$('play').getAttribute('aria-label')") == "Play"


def lags(tapped: NDArray[np.float32]) -> list[int]:
    """Measure how many samples each other track is behind the first, where their correlation is highest."""
    first = np.fft.rfft(tapped[0], 2 * tapped.shape[1])
    found = []
    for other in tapped[1:]:
        product = np.fft.irfft(first.conj() * np.fft.rfft(other, 2 * tapped.shape[1]))
        peak = int(np.argmax(product))
        assert product[peak] > 0.5 * np.linalg.norm(tapped[0]) * np.linalg.norm(other)
        found.append(peak if peak < tapped.shape[1] else peak - 2 * tapped.shape[1])
    return found


@pytest.fixture(scope="module")
def long_tab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Tab:
    """A page of stems that have the same noise in them, each under a tone of its own, for 62 seconds."""
    rng = np.random.default_rng(0)
    walk = np.cumsum(rng.normal(0, 0.006, (1, 62 * RATE)), axis=1)
    noise = (walk - np.roll(walk, 200)).astype(np.float32)
    stems = {name: noise + tone(TONES[name], 62.0, level=0.02)[:1] for name in ("vocals", "drums")}
    path = write(songs_in(write_stems(tmp_path_factory.mktemp("long") / "Song", stems))[0])[0]
    opened = browser.open(path.as_uri())
    opened.run("ready")
    return opened


@pytest.mark.parametrize("tempo", [1.0, 0.8, 1.3])
def test_stems_stay_together(long_tab: Tab, tempo: float) -> None:
    long_tab.run("gains = () => [1, 1, 1]")  # the original, the third track, is heard with the stems
    seconds = 60.0 if tempo == 1 else 15.0
    size = 16384
    starts = np.linspace(size, seconds * RATE - 2 * size, 20).astype(int).tolist()
    tapped = render(long_tab, seconds, tap=True, orders={"tempo": tempo}, starts=starts, length=size)
    assert [lags(piece) for piece in np.split(tapped, 20, axis=1)] == [[0, 0]] * 20


def test_it_plays_the_very_samples(tab: Tab) -> None:
    # MP3 is not exact, but where the song begins is, and what is heard there.
    heard = render(tab, 1.0, tap=True)
    for name, track in zip(TONES, heard, strict=False):
        wanted = tone(TONES[name], 1.0)[0]
        error = (track - wanted)[2000:]
        assert 10 * np.log10((wanted[2000:] ** 2).mean() / (error**2).mean()) > 25, name


def test_the_sum_is_the_original(tab: Tab) -> None:
    stems = render(tab, 1.0)
    tab.press("o")
    original = render(tab, 1.0)
    assert tab.run("document.querySelector('[data-source=original]').getAttribute('aria-pressed')") == "true"
    assert 10 * np.log10((original**2).mean() / ((stems - original) ** 2).mean()) > 20


def click(tab: Tab, selector: str) -> None:
    box = tab.run(
        f"(({{ x, y, width, height }}) => [x + width / 2, y + height / 2])"
        f"(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    tab.mouse((box[0], box[1]))


def test_mute_and_solo_change_what_is_heard(tab: Tab) -> None:
    everything = levels(render(tab, 0.6))
    assert everything == pytest.approx(dict.fromkeys(TONES, 0.2), abs=0.01)
    click(tab, '[aria-label="Mute drums"]')
    muted = levels(render(tab, 0.6))
    assert muted == pytest.approx({"vocals": 0.2, "drums": 0, "bass": 0.2}, abs=0.01)
    click(tab, '[aria-label="Solo bass"]')
    assert levels(render(tab, 0.6)) == pytest.approx({"vocals": 0, "drums": 0, "bass": 0.2}, abs=0.01)
    click(tab, '[aria-label="Solo drums"]')  # a soloed stem is heard, muted or not
    assert levels(render(tab, 0.6)) == pytest.approx({"vocals": 0, "drums": 0.2, "bass": 0.2}, abs=0.01)
    assert tab.run("[...document.querySelectorAll('.solo')].map((b) => b.getAttribute('aria-pressed')).join()") == (
        "false,true,true"
    )


def test_volume_and_pan_change_what_is_heard(tab: Tab) -> None:
    tab.run("""(() => {
      const [volume, pan] = [".volume", ".pan"].map((name) => document.querySelectorAll(name)[0]);
      volume.value = 50; volume.oninput(); pan.value = -100; pan.oninput();
    })()""")
    left, right = (level(channel[4000:-4000], TONES["vocals"]) for channel in render(tab, 0.6))
    assert left == pytest.approx(0.2 * 0.25 * 2, abs=0.01)  # both channels of the stem on the left
    assert right == pytest.approx(0, abs=0.002)
    assert tab.run("document.querySelector('.volume').getAttribute('aria-valuetext')") == "−12.0 dB"
    assert tab.run("document.querySelector('.pan').getAttribute('aria-valuetext')") == "100 % left"
    tab.run("document.querySelectorAll('.pan')[1].focus()")
    tab.press("ArrowRight", "ArrowRight")
    assert tab.run("state.strips[1].pan") == 0.1


def test_mute_is_heard_while_it_plays(tab: Tab) -> None:
    tab.run("setPlaying(true)")
    until(tab, f"({METERS})[0] > 0.5")  # before the first samples all is silent
    tab.press("1", "Digit1")
    until(tab, f"({METERS})[0] < 0.01")
    assert tab.run(METERS)[1] > 0.5


@pytest.mark.parametrize("tempo", [0.5, 0.75, 1.25, 1.5])
def test_tempo_keeps_the_pitch(tab: Tab, tempo: float) -> None:
    tab.press("2", "Digit2")  # without drums, which have no period in common with the others
    heard = render(tab, 1.0, orders={"tempo": tempo})
    pieces = [heard[0, start : start + 8192] for start in range(4000, 36_000, 4096)]  # phases may jump between grains
    loudness = {name: float(np.mean([level(piece, hertz) for piece in pieces])) for name, hertz in TONES.items()}
    assert loudness == pytest.approx({"vocals": 0.2, "drums": 0.0, "bass": 0.2}, abs=0.02)


@pytest.mark.parametrize("tempo", [0.5, 1.5])
def test_tempo_is_what_it_says(tab: Tab, tempo: float) -> None:
    setting = f"{{ tracks, frames: data.frames, matched: 3, tempo: {tempo}, playing: true }}"
    reached = tab.run(f"""(() => {{
      const engine = Object.assign(new Engine(data.rate), {setting});
      const block = tracks.map(() => [new Float32Array(1.8 * data.rate)]);
      engine.render(block);
      return engine.position;
    }})()""")
    assert reached == pytest.approx(1.8 * RATE * tempo, abs=0.035 * RATE)  # a grain and a half


def test_a_seek_is_exact(long_tab: Tab) -> None:
    whole = render(long_tab, 2.0, tap=True)
    later = render(long_tab, 1.0, tap=True, orders={"seek": 30_000})
    assert later[:, 1000:10_000] == pytest.approx(whole[:, 31_000:40_000], abs=1e-6)


def test_a_loop_is_exact(long_tab: Tab) -> None:
    first, end = 20_011, 47_654
    heard = render(long_tab, 3.0, tap=True, orders={"loop": [first, end], "seek": first})[0]
    whole = render(long_tab, 2.0, tap=True)[0]
    period = end - first
    fade = 1100  # a grain: from what comes after the loop's end into its beginning
    for lap in range(3):
        body = slice(lap * period + fade, (lap + 1) * period)
        assert heard[body] == pytest.approx(whole[first + fade : end], abs=1e-6)
    assert np.abs(np.diff(heard)).max() < 2 * np.abs(np.diff(whole)).max()  # no click anywhere


def test_keys(tab: Tab) -> None:
    def state(name: str) -> Any:
        return tab.run(f"state.{name}")

    tab.press("ArrowRight", "ArrowRight", modifiers=8)
    assert state("position") == RATE
    tab.press("a", "KeyA")
    assert state("loop") == [RATE, 3 * RATE]
    tab.run("seek(2 * data.rate)")
    tab.press("b", "KeyB")
    assert (state("loop"), state("looping")) == ([RATE, 2 * RATE], True)
    tab.press("l", "KeyL")
    assert state("looping") is False
    tab.press("-", "Minus")
    assert state("tempo") == 0.95
    tab.press("0", "Digit0")
    assert state("tempo") == 1
    tab.press("-", "Digit6")  # on a French keyboard
    assert state("tempo") == 0.95
    tab.press("@", "Digit2", modifiers=8)
    assert state("strips[1].solo") is True
    tab.press("Home", "Home")
    assert state("position") == 0
    tab.press("s", "KeyS")
    assert tab.run("getComputedStyle(document.querySelector('.lane img')).display") == "block"
    assert tab.run("[...document.querySelectorAll('.lane img')].every((image) => image.naturalWidth > 100)")
    dark = state("karaoke"), tab.run("root.dataset.theme")
    tab.press("t", "KeyT")
    tab.press("k", "KeyK")
    assert (state("karaoke"), tab.run("root.dataset.theme")) != dark
    tab.press("?", "Slash", modifiers=8)
    assert tab.run("$('keys').open") is True
    assert tab.complaints() == []


def test_karaoke_is_the_song_without_vocals(tab: Tab) -> None:
    click(tab, "#karaoke")
    assert levels(render(tab, 0.6)) == pytest.approx({"vocals": 0, "drums": 0.2, "bass": 0.2}, abs=0.01)
    tab.run("$('guide').value = 50, $('guide').oninput()")
    assert levels(render(tab, 0.6))["vocals"] == pytest.approx(0.05, abs=0.01)
    assert tab.run("$('stage').hidden") is False


@pytest.mark.parametrize("view", ["wave", "spectrum"])
def test_a_drag_makes_a_loop_and_a_click_seeks(tab: Tab, view: str) -> None:
    tab.run(f"setView({view!r})")
    x, y, width = tab.run(
        "(({ x, y, width }) => [x, y + 50, width])(document.querySelectorAll('.lane')[1].getBoundingClientRect())"
    )
    tab.mouse((x + width / 2, y))
    assert tab.run("state.position") == pytest.approx(1.5 * RATE, abs=RATE / 100)
    tab.mouse((x + width / 4, y), (x + width / 3, y), (x + 3 * width / 4, y))
    assert tab.run("state.loop") == pytest.approx([0.75 * RATE, 2.25 * RATE], abs=RATE / 100)
    tab.mouse((x + width * 0.9, y))  # outside of the loop: leaves it
    assert tab.run("state.looping") is False


def test_names_are_only_names(browser: Browser, tmp_path: Path) -> None:
    folder = write_stems(tmp_path / "Song", {EVIL.replace("/", ""): tone(440, 0.5), "drums": tone(1000, 0.5)})
    song = songs_in(folder)[0]
    (path,) = write(type(song)(EVIL, song.stems, song.page, song.original))
    tab = browser.open(path.as_uri())
    tab.run("ready")
    assert tab.run("document.title") == EVIL
    assert tab.run("document.querySelector('h1').textContent") == EVIL
    assert EVIL.replace("/", "") in tab.run("[...document.querySelectorAll('.name')].map((name) => name.textContent)")
    assert tab.complaints() == []


def test_everything_has_a_name_for_screen_readers(tab: Tab) -> None:
    tab.call("Accessibility.enable")
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named: dict[str, list[str]] = {}
    for node in nodes:
        if not node.get("ignored"):
            named.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    for role in ("button", "slider"):
        assert all(named[role]), (role, named[role])
    assert {"Volume of vocals", "Pan of bass", "Position", "Tempo"} <= set(named["slider"])
    assert {"Mute drums", "Solo vocals", "Play", "Loop", "Original"} <= set(named["button"])


@pytest.mark.parametrize("width", [320, 390, 760, 1024])
def test_nothing_hangs_out_of_small_windows(browser: Browser, page: Path, width: int) -> None:
    tab = browser.open(page.as_uri(), width, 800)
    tab.run("ready")
    assert tab.run("document.documentElement.scrollWidth") == width
    assert tab.run("document.querySelector('.lane canvas').clientWidth") > 200
    boxes = "[...document.querySelectorAll('button')].map((button) => button.getBoundingClientRect())"
    sides = tab.run(f"{boxes}.filter(({{ width }}) => width).flatMap(({{ width, height }}) => [width, height])")
    assert min(sides) >= 28  # for fingers


def test_dark_and_light(browser: Browser, page: Path) -> None:
    tab = browser.open(page.as_uri())
    colours = {}
    for scheme in ("dark", "light"):
        tab.prefer(scheme)
        tab.go(page.as_uri())
        tab.run("ready")
        colours[scheme] = tab.run("getComputedStyle(document.body).backgroundColor")
    assert sum(map(int, colours["dark"][4:-1].split(","))) < 100
    assert sum(map(int, colours["light"][4:-1].split(","))) > 600


def test_does_without_an_audio_worklet(browser: Browser, page: Path) -> None:
    tab = browser.open(page.as_uri(), before="delete BaseAudioContext.prototype.audioWorklet")
    tab.run("ready")
    tab.run("setPlaying(true)")
    until(tab, "state.position > data.rate / 2")
    heard = tab.run(METERS)
    assert all(level > 0.5 for level in heard[:3])


def test_says_when_it_cannot_be_played(browser: Browser, page: Path, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(re.sub(r'(id="sound-1">)[^<]*', r"\1AAAA", page.read_text("utf-8")), "utf-8")
    tab = browser.open(path.as_uri())
    tab.run("ready.catch(() => null)")
    assert "cannot decode" in tab.run("$('time').textContent")
    assert tab.run("$('play').disabled") is True
