from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mutagen
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from separate.audio.writer import StemWriter
from separate.errors import OutputError, OutputExists, UsageError
from tests.audio._out_songs import EVERY, LOSSY, decode, format_of, tones

Stems = dict[str, NDArray[np.float32]]


def paths_of(folder: Path, stems: Stems, text: str) -> dict[str, Path]:
    return {name: folder / "model" / "song" / f"{name}{format_of(text).suffix}" for name in stems}


def blocks_of(stems: Stems, size: int) -> Iterator[Stems]:
    for start in range(0, next(iter(stems.values())).shape[1], size):
        yield {name: samples[:, start : start + size] for name, samples in stems.items()}


def write(folder: Path, stems: Stems, text: str, *, size: int = 1000, **options: Any) -> StemWriter:
    channels = len(next(iter(stems.values())))
    writer = StemWriter(
        paths_of(folder, stems, text), rate=48_000, channels=channels, format=format_of(text), **options
    )
    with writer:
        for block in blocks_of(stems, size):
            writer.write(block)
    return writer


def read(folder: Path, stems: Stems, text: str) -> dict[str, NDArray[np.float64]]:
    return {name: decode(path)[0] for name, path in paths_of(folder, stems, text).items()}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("text", EVERY)
def test_a_quiet_song_is_written_as_it_is(text: str, tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 20_001), "drums": tones(2, 20_001, level=0.5)}
    writer = write(tmp_path, stems, text)
    assert (writer.gain, writer.warnings) == (1.0, [])
    assert writer.peak == max(float(np.abs(samples).max()) for samples in stems.values())
    for name, samples in read(tmp_path, stems, text).items():
        assert samples.shape == (2, 20_001)
        if text in LOSSY:
            assert np.linalg.norm(samples - stems[name]) < 0.1 * np.linalg.norm(stems[name])
        else:
            assert np.abs(samples - stems[name]).max() < 2**-15
    suffix = format_of(text).suffix
    assert files(tmp_path) == sorted(["model", "song", f"drums{suffix}", f"vocals{suffix}"])


@pytest.mark.parametrize("text", [text for text in EVERY if text != "wav float"])
@pytest.mark.parametrize("size", [1000, 100_000])
def test_a_loud_stem_turns_all_stems_down_by_one_gain(text: str, size: int, tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 30_000, level=0.5), "drums": tones(2, 30_000, level=0.7)}
    stems["drums"][:, 20_000:] *= 2
    writer = write(tmp_path, stems, text, size=size)
    assert writer.peak == float(np.abs(stems["drums"]).max()) > 1.3
    assert writer.gain == (1 - 2**-15) / writer.peak
    for name, samples in read(tmp_path, stems, text).items():
        if text in LOSSY:
            ratio = np.linalg.norm(samples) / np.linalg.norm(stems[name])
            assert ratio == pytest.approx(writer.gain, rel=0.03)
        else:
            assert np.abs(samples - stems[name] * writer.gain).max() < 2**-15
    assert len(files(tmp_path)) == 4


@settings(deadline=None, max_examples=30)
@given(
    peaks=st.lists(st.floats(1 / 64, 8, width=32), min_size=1, max_size=4),
    sizes=st.lists(st.integers(0, 700), min_size=1, max_size=6),
)
def test_stems_keep_their_balance_whatever_the_peaks(
    peaks: list[float], sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("song")
    stems = {f"stem{i}": tones(1, sum(sizes), level=peak) for i, peak in enumerate(peaks)}
    writer = StemWriter(paths_of(folder, stems, "wav 24"), rate=48_000, channels=1, format=format_of("wav 24"))
    with writer:
        start = 0
        for size in sizes:
            writer.write({name: samples[:, start : start + size] for name, samples in stems.items()})
            start += size
    assert (writer.gain < 1) == (writer.peak > 1)
    for name, samples in read(folder, stems, "wav 24").items():
        assert samples.shape == stems[name].shape
        assert np.abs(samples - stems[name] * writer.gain).max(initial=0) < 2**-22


@pytest.mark.parametrize("text", ["wav 16", "wav float", "flac 24"])
@pytest.mark.parametrize("clip", ["rescale", "hard"])
@pytest.mark.parametrize("size", [1000, 100_000])
def test_gains_are_asked_for_at_the_songs_end(text: str, clip: str, size: int, tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 30_000, level=0.5), "karaoke": tones(2, 30_000, level=0.7)}
    writer = write(tmp_path, stems, text, size=size, clip=clip, gains=lambda: {"karaoke": 1.25, "another": 9.0})
    assert writer.gain == 1
    written = read(tmp_path, stems, text)
    assert np.abs(written["vocals"] - stems["vocals"]).max() < 2**-15
    assert np.abs(written["karaoke"] - 1.25 * stems["karaoke"]).max() < 2**-15
    assert len(files(tmp_path)) == 4


def test_gains_that_make_a_stem_clip_turn_all_down(tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 30_000, level=0.5), "karaoke": tones(2, 30_000, level=0.75)}
    loud = float(np.abs(stems["karaoke"]).max())
    writer = write(tmp_path, stems, "wav 24", gains=lambda: {"karaoke": 2.0})
    assert writer.gain == pytest.approx(1 / (2 * loud), rel=1e-4)
    written = read(tmp_path, stems, "wav 24")
    assert np.abs(written["vocals"] - writer.gain * stems["vocals"]).max() < 2**-22
    assert np.abs(written["karaoke"] - 2 * writer.gain * stems["karaoke"]).max() < 2**-22
    hard = write(tmp_path / "hard", stems, "wav 24", clip="hard", gains=lambda: {"karaoke": 2.0})
    assert hard.gain == 1
    cut = read(tmp_path / "hard", stems, "wav 24")["karaoke"]
    assert np.abs(cut - (2 * stems["karaoke"]).clip(-1, 1)).max() < 2**-22


def test_gains_may_keep_a_loud_stem_from_clipping(tmp_path: Path) -> None:
    stems = {"karaoke": tones(2, 30_000, level=2)}
    writer = write(tmp_path, stems, "flac 16", gains=lambda: {"karaoke": 0.25})
    assert writer.gain == 1
    assert np.abs(read(tmp_path, stems, "flac 16")["karaoke"] - stems["karaoke"] / 4).max() < 2**-15


def test_gains_may_keep_a_loud_stem_from_clipping_that_is_on_file_already(tmp_path: Path) -> None:
    quiet = tones(2, 30_000)
    vocals = tmp_path / "vocals.flac"
    with StemWriter(
        {"vocals": vocals},
        rate=48_000,
        channels=2,
        format=format_of("flac 16"),
        gains=lambda: {"karaoke": 0.25},
        kept=["karaoke"],
    ) as writer:
        writer.write({"vocals": quiet, "karaoke": 8 * quiet})
    assert writer.gain == 1
    assert np.abs(decode(vocals)[0] - quiet).max() < 2**-15


def test_float_samples_are_never_touched(tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 5_000, level=3), "drums": tones(2, 5_000)}
    for clip in ("rescale", "none"):
        writer = write(tmp_path / clip, stems, "wav float", clip=clip)
        assert writer.gain == 1
        assert writer.peak == float(np.abs(stems["vocals"]).max())
        for name, samples in read(tmp_path / clip, stems, "wav float").items():
            assert np.array_equal(samples, stems[name])


@pytest.mark.parametrize("text", ["wav 16", "wav float", "flac 24"])
def test_hard_clipping_cuts_off_and_leaves_the_rest(text: str, tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 5_000, level=3), "drums": tones(2, 5_000)}
    writer = write(tmp_path, stems, text, clip="hard")
    assert writer.gain == 1
    assert writer.peak > 2.9
    for name, samples in read(tmp_path, stems, text).items():
        assert np.abs(samples - np.clip(stems[name], -1, 1)).max() <= 2**-15


@pytest.mark.parametrize("text", ["wav 16", "flac 24", "mp3"])
def test_clip_none_needs_float_samples(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--clip none: .* add --format wav --bits float"):
        write(tmp_path, {"vocals": tones(1, 10)}, text, clip="none")
    assert files(tmp_path) == []


@pytest.mark.parametrize("text", EVERY)
def test_a_song_of_one_sample(text: str, tmp_path: Path) -> None:
    stems = {"vocals": np.full((2, 1), 0.5, np.float32)}
    assert write(tmp_path, stems, text).warnings == []
    assert read(tmp_path, stems, text)["vocals"].shape == (2, 1)


@pytest.mark.parametrize("text", EVERY)
def test_a_song_of_no_samples(text: str, tmp_path: Path) -> None:
    stems = {"vocals": np.zeros((2, 0), np.float32)}
    writer = write(tmp_path, stems, text)
    samples = read(tmp_path, stems, text)["vocals"]
    if format_of(text).container.empty:
        assert writer.warnings == []
        assert samples.shape == (2, 0)
    else:
        assert writer.warnings == [
            f"{format_of(text).name} cannot hold a song without samples: it became one of silence"
        ]
        assert samples.shape == (2, 1)


def test_what_is_not_a_number_becomes_silence_and_turns_nothing_down(tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 3_000), "drums": tones(2, 3_000)}
    stems["vocals"][0, 5:8] = (np.nan, np.inf, -np.inf)
    expected = np.nan_to_num(stems["vocals"], nan=0, posinf=0, neginf=0)
    writer = write(tmp_path, stems, "wav 24")
    assert writer.gain == 1
    assert writer.warnings == ["3 samples were not finite numbers and became silence"]
    assert np.abs(read(tmp_path, stems, "wav 24")["vocals"] - expected).max() < 2**-22


@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("level", [0.3, 3.0])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_leaves_nothing(
    text: str, level: float, error: type[BaseException], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stems = {"vocals": tones(2, 20_000, level=level), "drums": tones(2, 20_000)}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "other").touch()
    writer = StemWriter(paths_of(tmp_path, stems, text), rate=48_000, channels=2, format=format_of(text))

    def work() -> None:
        with writer:
            writer.write(stems)
            assert len(files(tmp_path)) == 5  # two of them temporary
            raise error

    with pytest.raises(error):
        work()
    assert files(tmp_path) == ["model", "other"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
@pytest.mark.parametrize("text", EVERY)
@pytest.mark.parametrize("level", [0.3, 3.0])
def test_ctrl_c_is_never_swallowed_by_a_codec(
    text: str, level: float, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stems = {"vocals": tones(2, 20_000, level=level), "drums": tones(2, 20_000)}
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)  # pytest itself uses the others
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))

    def work() -> None:
        with StemWriter(paths_of(tmp_path, stems, text), rate=48_000, channels=2, format=format_of(text)) as writer:
            timer.start()
            for _ in range(200):  # more than anything does in 0.05 s
                writer.write(stems)

    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, before)
    assert files(tmp_path) == []
    assert capfd.readouterr() == ("", "")


def test_existing_files_are_an_error_before_anything_is_made(tmp_path: Path) -> None:
    stems = {"vocals": tones(1, 100), "drums": tones(1, 100)}
    write(tmp_path, stems, "wav 16")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.wav")}
    with pytest.raises(OutputExists, match=r"vocals\.wav: is there already; --force overwrites it, --skip-existing"):
        StemWriter(paths_of(tmp_path, stems, "wav 16"), rate=48_000, channels=1, format=format_of("wav 16"))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.wav")} == before
    write(tmp_path, {name: samples * np.float32(0.5) for name, samples in stems.items()}, "wav 16", force=True)
    assert all(path.read_bytes() != data for path, data in before.items())
    assert len(files(tmp_path)) == 4


def test_a_file_that_appears_during_the_work_is_kept(tmp_path: Path) -> None:
    stems = {"vocals": tones(1, 100), "drums": tones(1, 100)}
    paths = paths_of(tmp_path, stems, "flac 16")
    writer = StemWriter(paths, rate=48_000, channels=1, format=format_of("flac 16"))

    def work() -> None:
        with writer:
            writer.write(stems)
            paths["drums"].write_text("somebody else's")

    with pytest.raises(OutputExists, match=r"drums\.flac"):
        work()
    assert files(tmp_path) == ["drums.flac", "model", "song"]
    assert paths["drums"].read_text() == "somebody else's"


def test_a_disk_that_is_too_small_is_reported_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"song: the stems need 40000000\.0 GB while they are written, [\d.]+ GB"):
        write(tmp_path, {"vocals": tones(2, 10), "drums": tones(2, 10)}, "wav 32", frames=1_250_000_000_000_000)
    assert files(tmp_path) == []


def test_too_many_channels(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"vocals\.mp3: .*1 to 2 channels, not 3"):
        write(tmp_path, {"vocals": tones(3, 10)}, "mp3")
    assert files(tmp_path) == []


def test_stems_that_do_not_fit_together_are_a_bug_of_the_caller(tmp_path: Path) -> None:
    writer = StemWriter({name: tmp_path / name for name in "ab"}, rate=48_000, channels=2, format=format_of("wav 16"))
    with pytest.raises(ValueError, match=r"a \(2, 10\), b \(2, 9\)"), writer:
        writer.write({"a": tones(2, 10), "b": tones(2, 9)})
    assert files(tmp_path) == []


LIMITED = """
import resource, signal, sys
from pathlib import Path
from separate.audio.writer import StemWriter
from separate.errors import OutputError
from tests.audio._out_songs import EVERY, format_of, tones

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
folder = Path(sys.argv[1])
for text in EVERY:
    for level in (0.3, 3.0):
        stems = {"vocals": tones(2, 200_000, level=level), "drums": tones(2, 200_000)}
        paths = {name: folder / "new" / f"{name}{format_of(text).suffix}" for name in stems}
        for limit in (10, 5_000, 50_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                with StemWriter(paths, rate=48_000, channels=2, format=format_of(text)) as writer:
                    for start in range(0, 200_000, 50_000):
                        writer.write({name: samples[:, start : start + 50_000] for name, samples in stems.items()})
            except OutputError as error:
                assert "cannot be written: File too large; the folder's file system or your limits" in str(error), error
                assert len(str(error).splitlines()) == 1
            else:
                raise AssertionError(f"{text} {limit}: no error")
            left = list(folder.rglob("*"))
            assert not left, (text, limit, left)
"""


def test_no_write_error_is_lost_in_any_format(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tags_are_copied_and_their_trouble_is_a_warning(tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 1000), "drums": tones(2, 1000)}
    write(tmp_path / "song", stems, "flac 16")
    song = paths_of(tmp_path / "song", stems, "flac 16")["vocals"]
    tagged: Any = mutagen.File(song)
    tagged["title"] = "A title"
    tagged.save()
    assert write(tmp_path / "out", stems, "flac 16", tags_from=song).warnings == []
    for name, path in paths_of(tmp_path / "out", stems, "flac 16").items():
        copied: Any = mutagen.File(path)
        assert (copied["title"], copied["subtitle"]) == (["A title"], [name])
    writer = write(tmp_path / "missing", stems, "flac 16", tags_from=tmp_path / "nowhere.flac")
    (warning,) = writer.warnings
    assert warning.startswith("tags could not be read: ")
    assert len(files(tmp_path / "missing")) == 4


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_no_file_stays_open(tmp_path: Path) -> None:
    stems = {"vocals": tones(2, 20_000, level=2)}
    before = len(os.listdir("/proc/self/fd"))
    for text in EVERY:
        write(tmp_path, stems, text, force=True)
        with pytest.raises(OutputExists):
            write(tmp_path, stems, text)
    assert len(os.listdir("/proc/self/fd")) == before
