"""`separate INPUT...`: what the options do to the files that come out."""

from __future__ import annotations

import io
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from separate import AudioReader, Separator
from separate.checkpoints.registry import registry
from separate.cli.options import seconds
from separate.errors import UsageError
from tests.conftest import Outcome, music

Cli = Callable[..., Outcome]
STEMS = ("vocals", "drums", "bass", "other")


def samples(path: Path) -> NDArray[np.float32]:
    with AudioReader(path) as reader:
        return np.concatenate([np.zeros((reader.channels, 0), np.float32), *reader.blocks()], 1)


def test_stems_are_those_of_the_python_face(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    done = cli(song, "--model", tiny, "--out", tmp_path / "out", "--bits", "float")
    assert done.code == 0, done.err
    assert done.out == ""
    assert "song.wav: done in" in done.err
    expected = Separator(tiny, device="cpu").separate(song)
    for stem in STEMS:
        assert np.array_equal(samples(tmp_path / f"out/tiny/song/{stem}.wav"), expected[stem])


# format, bits asked for, rate, channels; every input is a WAV of 16 bits, 24 bits or floats
COMBINATIONS = [
    (format, subtype, rate, channels)
    for format, subtypes in {"wav": ("PCM_16", "PCM_24", "FLOAT"), "flac": ("PCM_16", "PCM_24")}.items()
    for subtype in subtypes
    for rate in (8000, 22050, 44100, 48000, 96000)
    for channels in (1, 2)
] + [
    (format, "PCM_16", rate, channels)
    for format, rates in {
        "ogg": (44100, 48000),
        "opus": (48000,),
        "mp3": (44100, 48000),
        "m4a": (44100, 48000),
    }.items()
    for rate in rates
    for channels in (1, 2)
]


@pytest.mark.parametrize(
    ("format", "subtype", "rate", "channels"),
    [*COMBINATIONS, ("wav", "PCM_24", 44100, 6), ("flac", "PCM_16", 48000, 5)],
)
def test_length_rate_channels_and_depth_are_the_songs(
    cli: Cli, tiny: Path, tmp_path: Path, format: str, subtype: str, rate: int, channels: int
) -> None:
    assert len(COMBINATIONS) >= 40
    mix = music(0.4, rate, channels)
    soundfile.write(tmp_path / "song.wav", mix.T, rate, subtype)
    done = cli(tmp_path / "song.wav", "-m", tiny, "-o", tmp_path, "--format", format, "--name", "{stem}.{ext}")
    assert done.code == 0, done.err
    total = np.zeros_like(mix)
    for stem in STEMS:
        with AudioReader(tmp_path / f"{stem}.{format}") as reader:
            assert (reader.rate, reader.channels) == (rate, channels)
            if format in ("wav", "flac"):
                assert (reader.bits, reader.is_float) == (
                    {"PCM_16": 16, "PCM_24": 24, "FLOAT": 32}[subtype],
                    subtype == "FLOAT",
                )
        stem_samples = samples(tmp_path / f"{stem}.{format}")
        assert stem_samples.shape == mix.shape
        total += stem_samples
    if format in ("wav", "flac"):
        error = {"PCM_16": -70, "PCM_24": -110, "FLOAT": -110}[subtype]
        assert 10 * np.log10(((total - mix) ** 2).mean() / (mix**2).mean()) < error


@pytest.mark.parametrize("source", ["flac", "ogg", "mp3", "opus", "aiff"])
def test_other_inputs(cli: Cli, tiny: Path, tmp_path: Path, source: str) -> None:
    rate = 48000
    mix = music(0.7, rate)
    path = tmp_path / f"song.{source}"
    soundfile.write(
        path, mix.T, rate, format="OGG" if source == "opus" else None, subtype="OPUS" if source == "opus" else None
    )
    done = cli(path, "-m", tiny, "-o", tmp_path, "--name", "{stem}.{ext}", "--stems", "bass")
    assert done.code == 0, done.err
    assert samples(tmp_path / "bass.wav").shape == mix.shape


def test_only_chosen_stems_are_written(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    assert cli(song, "-m", tiny, "-o", tmp_path / "out", "--stems", "drums, vocals", "--quiet").code == 0
    assert sorted(path.name for path in (tmp_path / "out/tiny/song").iterdir()) == ["drums.wav", "vocals.wav"]


def test_a_folder_keeps_its_tree(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    for name in ("album/one.wav", "album/cd 2/two.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(song.read_bytes())
    done = cli(tmp_path / "album", "-m", tiny, "-o", tmp_path / "out", "--stems", "bass", "--json")
    assert done.code == 0
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["status"] for row in rows] == ["done", "done", "summary"]
    assert (tmp_path / "out/tiny/cd 2/two/bass.wav").is_file()
    assert rows[0]["outputs"]["bass"] == str(tmp_path / "out/tiny/one/bass.wav")
    assert rows[0]["audio_seconds"] == 1.5
    assert rows[0]["gain"] == 1.0


def test_a_part(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    done = cli(song, "-m", tiny, "-o", tmp_path, "--name", "{stem}.{ext}", "--start", "0:00.5", "--end", "1.25")
    assert done.code == 0, done.err
    total = np.sum([samples(tmp_path / f"{stem}.wav") for stem in STEMS], 0)
    expected = samples(song)[:, 22050:55125]
    assert total.shape == expected.shape
    assert np.abs(total - expected).max() < 4 / 32768


def test_another_rate_and_depth(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    done = cli(song, "-m", tiny, "-o", tmp_path, "--name", "{stem}.{ext}", "--rate", 48000, "--bits", 24)
    assert done.code == 0
    info = soundfile.info(tmp_path / "vocals.wav")
    assert (info.samplerate, info.subtype, info.frames) == (48000, "PCM_24", 72000)


def test_loud_stems_get_one_gain_and_it_is_said(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    mix = music(1.0, 44100) * 12  # stems beyond full scale
    soundfile.write(tmp_path / "loud.wav", mix.T, 44100, "FLOAT")
    plain = Separator(tiny, device="cpu").separate(tmp_path / "loud.wav")
    done = cli(tmp_path / "loud.wav", "-m", tiny, "-o", tmp_path, "--name", "{stem}.{ext}", "--bits", "24", "--json")
    gain = json.loads(done.out)["gain"]
    peak = max(float(np.abs(stem).max()) for stem in plain.values())
    assert peak > 1
    assert gain == pytest.approx(1 / peak, rel=1e-3)
    assert f"turned down by {-20 * np.log10(gain):.2f} dB" in done.err
    for stem in STEMS:
        assert np.abs(samples(tmp_path / f"{stem}.wav") - gain * plain[stem]).max() < 1e-6
    hard = cli(
        tmp_path / "loud.wav",
        "-m",
        tiny,
        "-o",
        tmp_path,
        "--name",
        "hard-{stem}.{ext}",
        "--bits",
        "24",
        "--clip",
        "hard",
    )
    assert hard.code == 0
    assert np.abs(samples(tmp_path / "hard-vocals.wav") - plain["vocals"].clip(-1, 1)).max() < 1e-6


def test_existing_stems_are_refused_left_or_overwritten(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    run = (song, "-m", tiny, "-o", tmp_path / "out", "--stems", "bass,drums")
    assert cli(*run).code == 0
    bass, drums = (tmp_path / f"out/tiny/song/{stem}.wav" for stem in ("bass", "drums"))
    right = drums.read_bytes()
    bass.write_text("mine")
    refused = cli(*run)
    assert refused.code == 1
    assert "--force overwrites it, --skip-existing leaves it" in refused.err
    drums.unlink()
    assert cli(*run, "--skip-existing").code == 0
    assert (bass.read_text(), drums.read_bytes()) == ("mine", right)
    assert "skipped" in cli(*run, "--skip-existing").err
    assert cli(*run, "--force").code == 0
    assert bass.stat().st_size > 1000


def test_from_stdin_to_stdout(tiny: Path, song: Path) -> None:
    command = [sys.executable, "-m", "separate", "-", "--model", str(tiny), "--out", "-", "--stems", "vocals", "-q"]
    done = subprocess.run(command, input=song.read_bytes(), capture_output=True, check=True)
    assert done.stderr == b""
    written, rate = soundfile.read(io.BytesIO(done.stdout), dtype="float32")
    assert rate == 44100
    expected = Separator(tiny, device="cpu").separate(song)["vocals"]
    assert np.abs(written.T - expected).max() < 1 / 32768


def run(*args: object, **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Run `separate ARGS...` in a process of its own."""
    command = [sys.executable, "-m", "separate", *map(str, args)]
    return subprocess.run(command, capture_output=True, check=False, **more)


def test_from_stdin_to_files(tiny: Path, song: Path, tmp_path: Path) -> None:
    args = ("-", "-m", tiny, "-o", tmp_path / "out", "--stems", "vocals,bass", "-q")
    assert run(*args, input=song.read_bytes()).stderr == b""
    alone = tmp_path / "out/tiny/stdin/vocals.wav"
    expected = Separator(tiny, device="cpu").separate(song)["vocals"]
    assert np.abs(samples(alone) - expected).max() < 1 / 32768
    refused = run(*args, "--jobs", 2, input=song.read_bytes())
    assert refused.returncode == 2
    assert refused.stderr == b"separate: - is a song that one process reads: leave --jobs and several devices out\n"


def test_streams_that_are_closed(tiny: Path, song: Path, tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "separate", "-m", str(tiny), "--stems", "bass"])

    def shell(line: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(line, shell=True, capture_output=True, check=False, cwd=tmp_path)

    assert shell(f"{command} {song} --out a 2>&-").returncode == 0
    assert (tmp_path / "a/tiny/song/bass.wav").stat().st_size > 1000
    assert b".separate.jsonl" not in (tmp_path / "a/.separate.jsonl").read_bytes()
    lost = shell(f"{command} {song} --out - >&-")
    assert (lost.returncode, lost.stderr) == (1, b"separate: --out -: standard output is closed\n")
    empty = shell(f"{command} - --out b <&-")
    assert (empty.returncode, empty.stderr.count(b"\n")) == (1, 1)
    assert b"is empty" in empty.stderr


def test_an_encoding_that_lacks_a_name(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "日本.wav", music(0.1, 44100).T, 44100)
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    told = run("日本.wav", "-m", tiny, "--out", "out", "--dry-run", "--json", cwd=tmp_path, env=env)
    assert told.returncode == 0, told.stderr
    told = run("日本.wav", "-m", tiny, "--out", "out", "--dry-run", cwd=tmp_path, env=env)
    assert (told.returncode, "\\u65e5\\u672c.wav" in told.stdout.decode()) == (0, True)


def test_a_home_that_nobody_may_enter(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc/1/root/nobody/here\0"[:-1])
    assert "d2-gru" in registry()
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user whom the system does not know
    assert "d2-gru" in registry()


def test_stems_that_were_missing_are_as_loud_as_those_that_are_there(cli: Cli, tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "song.wav", (music(0.5, 44100) * 12).T, 44100, "FLOAT")
    args = (tmp_path / "song.wav", "-m", tiny, "-o", tmp_path / "out", "--bits", 24)
    assert "all stems were turned down" in cli(*args).err
    for stem in STEMS:
        path = tmp_path / f"out/tiny/song/{stem}.wav"
        before = path.read_bytes()
        path.unlink()
        assert cli(*args, "--skip-existing").code == 0
        assert path.read_bytes() == before


def test_who_reads_a_pipe_may_stop(tiny: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, music(5.0, 44100).T, 44100)  # more than a pipe holds
    command = [sys.executable, "-m", "separate", str(song), "-m", str(tiny), "--stems", "bass", "-o", "-", "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    assert process.stdout.read(4) == b"RIFF"
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 141


def test_a_pipe_is_clipped_as_files_are(tiny: Path, tmp_path: Path) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, 16 * music(0.5, 44100).T, 44100, "FLOAT")
    more = ("-m", tiny, "--stems", "vocals", "-o", "-", "-q", "--bits", "float")
    loud, hard = (
        np.abs(soundfile.read(io.BytesIO(run(song, *more, "--clip", clip).stdout))[0]).max()
        for clip in ("none", "hard")
    )
    assert loud > 1
    assert hard == 1


def test_a_pipe_is_not_clipped_in_silence(cli: Cli, tiny: Path, song: Path) -> None:
    done = cli(song, "-m", tiny, "-o", "-", "--stems", "vocals", "--clip", "none")
    assert (done.code, done.out) == (1, "")
    assert "--clip none: wav with 16 bits has a full scale; add --bits float" in done.err


@pytest.mark.parametrize("when", [["--start", "1e308"], ["--end", "1e308"], ["--segment", "nan"], ["--segment", "inf"]])
def test_numbers_that_are_none(cli: Cli, tiny: Path, song: Path, tmp_path: Path, when: list[str]) -> None:
    done = cli(song, "-m", tiny, "-o", tmp_path / "out", *when)
    assert (done.code, done.err.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "name",
    [
        "with space.wav",
        "quo'te\".wav",
        "line\nbreak.wav",
        "🎵 émoji.wav",
        "x" * 246 + ".wav",
        "-dash.wav",
        "models.wav",
    ],
)
def test_names_of_all_kinds(cli: Cli, tiny: Path, song: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "songs").mkdir()
    path = tmp_path / "songs" / name
    path.write_bytes(song.read_bytes())
    done = cli(path, "-m", tiny, "-o", tmp_path / "out", "--stems", "bass")
    assert done.code == 0, done.err
    assert len(done.err.splitlines()) == 1
    assert samples(tmp_path / "out/tiny" / path.stem / "bass.wav").shape == samples(song).shape


def test_a_file_named_like_a_command(
    cli: Cli, tiny: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("models").write_bytes(song.read_bytes())
    assert cli("./models", "-m", tiny, "--stems", "bass").code == 0
    assert Path("separated/tiny/models/bass.wav").is_file()
    assert "d2-gru" in cli("models").out


def test_options_may_come_first(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    assert cli("--quiet", "--stems", "bass", "--model", tiny, "-o", tmp_path / "out", song).code == 0


@pytest.mark.parametrize(("text", "value"), [("83.5", 83.5), ("1:23.5", 83.5), ("1:00:01", 3601.0), ("0", 0.0)])
def test_times(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "x", "1:2:3:4", "-1", "nan", "inf", "1:-2"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is no time: write seconds"):
        seconds(text)


@pytest.mark.parametrize("after", [0.0, 0.7])
def test_an_interrupt_leaves_nothing_half_written(tiny: Path, tmp_path: Path, after: float) -> None:
    """Ctrl-C in the middle of a long song: exit code 130, one line, no file."""
    soundfile.write(tmp_path / "long.wav", np.zeros((44100 * 600, 2), np.int16), 44100)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "separate", str(tmp_path / "long.wav"), "-m", str(tiny), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (parts := list(out.rglob("*.part"))) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if not parts:
        process.kill()
        pytest.fail(f"nothing was begun; left with {process.returncode}, said {process.communicate()}")
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "separate: interrupted; what was not complete has been removed"
    assert "Traceback" not in said
    assert not [path for path in out.rglob("*") if path.is_file()]


def test_threads_of_other_songs_do_not_stay(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    import threading

    cli(song, "-m", tiny, "-o", tmp_path / "out")
    assert not [thread for thread in threading.enumerate() if thread.name == "separate-ahead"]
    assert sorted(os.listdir(tmp_path / "out")) == [".separate.jsonl", "tiny"]
