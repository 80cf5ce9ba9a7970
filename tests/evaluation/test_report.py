"""The page of plots: opened in a browser, every mark is there and seen, and nothing is asked of the network."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from separate.evaluation.report import page
from separate.evaluation.results import Results
from separate.metrics.score import Scores

STEMS = ("vocals", "drums", "bass")
METRICS = ("SDR", "SIR", "SAR", "ISR")
EVIL = "<script>alert('A & \"B\"')</script>"
SONGS = [EVIL, *(f"Song {number}" for number in range(11))]
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def results(name: str, shift: float) -> Results:
    rng = np.random.default_rng(round(shift))
    tracks: dict[str, Scores] = {
        song: {stem: {metric: list(rng.normal(5 + shift, 2, 5)) for metric in METRICS} for stem in STEMS}
        for song in SONGS
    }
    tracks["Song 3"]["bass"]["SDR"][:] = [math.nan] * 5  # type: ignore[index]
    return Results(
        name, tracks, {"oracle": name, "merge": {}}, command="separate evaluate", failed={"X": "X: no sound"}
    )


SYSTEMS = [results("one", 0), results(EVIL, 3)]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(page(SYSTEMS), "utf-8")
    return path


def browse(address: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium, which can reach nothing but this machine."""
    if BROWSER is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs chromium")
        pytest.skip("needs chromium")
    alone = ("--no-proxy-server", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--no-first-run")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *alone]
    command += [
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        f"--log-net-log={folder / 'net.json'}",
    ]
    return subprocess.run([*command, *options, address], capture_output=True, text=True, check=True, timeout=120)


def requests(report: Path) -> tuple[list[str], set[str]]:
    """Open a page from a server of our own: what the server was asked for, and all that the page asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(report.parent)))
    own = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        browse(f"{own}/{report.name}", report.parent, "--dump-dom")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    events = [event.get("params", {}) for event in json.loads(report.with_name("net.json").read_text())["events"]]
    return asked, {event["url"] for event in events if "url" in event and event.get("initiator") == own}


class Marks(HTMLParser):
    """Counts elements by name and class."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name) for name in (dict(attrs).get("class") or "-").split()]

    def count(self, tag: str, name: str = "-") -> int:
        return self.found.count((tag, name))


def test_every_mark_is_there_in_a_browser(report: Path) -> None:
    dumped = browse(report.as_uri(), report.parent, "--dump-dom")
    marks = Marks(dumped.stdout)
    values = len(SYSTEMS) * len(STEMS) * len(SONGS)
    assert marks.count("svg", "plot") == len(METRICS)
    assert marks.count("g", "box") == len(SYSTEMS) * len(STEMS) * len(METRICS)
    assert marks.count("circle", "song") == values * len(METRICS) - len(SYSTEMS)
    assert marks.count("rect", "cell") == values
    assert marks.count("rect", "none") == len(SYSTEMS)
    assert marks.count("script") == 0
    assert "CONSOLE" not in dumped.stderr


def test_nothing_is_asked_of_the_network(report: Path) -> None:
    assert requests(report) == (["/report.html"], set())
    assert not re.findall(r"""(?:src|href|url)\s*[=(]|@import|https?:""", report.read_text("utf-8"))


def test_what_a_page_asks_for_would_be_seen(report: Path) -> None:
    other = report.with_name("other.html")
    other.write_text('<img src="x.png"><img src="http://example.org/y.png">')
    asked, urls = requests(other)
    assert "/x.png" in asked
    assert "http://example.org/y.png" in urls


@pytest.mark.parametrize(("scheme", "dark"), [("1", False), ("0", True)])
def test_plots_are_seen(report: Path, scheme: str, dark: bool) -> None:
    shot = report.with_name(f"shot{scheme}.png")
    look = (f"--blink-settings=preferredColorScheme={scheme}", "--window-size=1100,2400", f"--screenshot={shot}")
    browse(report.as_uri(), report.parent, *look)
    picture = pixels(shot)
    assert (picture[5, 5].mean() < 64) == dark
    colours = ("#6aa5f5", "#f58a5a") if dark else ("#2468c8", "#d9541e")
    for colour in colours:  # the lines of the boxes, and the keys
        assert (np.abs(picture - rgb(colour)).max(-1) < 40).sum() > 1000
    assert (np.abs(picture - rgb("#68a830")).max(-1) < 30).sum() > 1000  # the middle of the map


def pixels(path: Path) -> NDArray[np.int64]:
    with av.open(str(path)) as file:
        return next(file.decode(video=0)).to_ndarray(format="rgb24").astype(np.int64)


def rgb(colour: str) -> NDArray[np.int64]:
    return np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])


def test_the_page_says_the_medians_and_how_they_were_made() -> None:
    text = page(SYSTEMS)
    assert EVIL not in text
    assert "&lt;script&gt;" in text
    assert "X: no sound" in text
    assert "separate evaluate" in text
    assert "12 songs" in text
    # The second system is better everywhere: its figures are bold.
    assert len(re.findall('<td class="best">', text)) == len(STEMS) * len(METRICS)


def test_a_single_song_of_one_system_is_a_page_too() -> None:
    text = page([Results("one", {"song": {"vocals": {"SI-SDR": [3.0]}}})])
    marks = Marks(text)
    assert (marks.count("g", "box"), marks.count("circle", "song"), marks.count("rect", "cell")) == (1, 1, 1)
    assert "SI-SDR" in text
    assert "1 song." in text


def test_systems_with_other_songs_stand_beside_each_other() -> None:
    one = Results("one", {"a": {"vocals": {"SDR": [3.0]}}, "b": {"vocals": {"SDR": [math.nan]}}})
    two = Results("two", {"c": {"vocals": {"SDR": [4.0]}, "drums": {"SDR": [1.0]}}})
    marks = Marks(page([one, two]))
    assert marks.count("circle", "song") == 3
    assert marks.count("rect", "cell") == 9
    assert marks.count("rect", "none") == 6


def test_results_without_any_figure_are_a_page_without_plots() -> None:
    text = page([Results("one", {"song": {}})])
    assert "1 song." in text
    assert "<svg" not in text
