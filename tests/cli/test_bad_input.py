"""Bad input: one clear line, the documented exit code, the other songs still done, nothing half-written."""

from __future__ import annotations

import os
import resource
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import Outcome, music

Cli = Callable[..., Outcome]


def zero_samples(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 2), np.int16), 44100)


def text(path: Path) -> None:
    path.write_text("This is not audio.\n" * 50)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def nan(path: Path) -> None:
    samples = music(1.0, 44100)
    samples[0, 22050] = np.nan
    soundfile.write(path, samples.T, 44100, "FLOAT")


def inf(path: Path) -> None:
    samples = music(1.0, 44100)
    samples[1, 30000] = np.inf
    soundfile.write(path, samples.T, 44100, "FLOAT")


def truncated_flac(path: Path) -> None:
    whole = path.with_suffix(".flac")
    soundfile.write(whole, music(8.0, 44100).T, 44100)
    path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    whole.unlink()


def lying_wav(path: Path) -> None:
    soundfile.write(path, music(1.0, 44100).T, 44100, "PCM_16")
    raw = bytearray(path.read_bytes())
    at = raw.index(b"data") + 4
    raw[at : at + 4] = struct.pack("<I", 10_000_000)
    path.write_bytes(raw)


def folder(path: Path) -> None:
    path.mkdir()


BAD = {
    zero_samples: "no samples",
    text: "",
    empty: "empty",
    nan: "is nan, not a number",
    inf: "",
    truncated_flac: "",
    lying_wav: "",
    folder: "no audio files",
    Path.unlink: "no such file",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_song_that_cannot_be_read_fails_alone(
    cli: Cli, tiny: Path, song: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    bad = tmp_path / "bad.wav"
    if make is Path.unlink:
        bad.touch()
    make(bad)
    done = cli(bad, song, "-m", tiny, "-o", tmp_path / "out", "--quiet")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("separate: ")
    assert str(bad) in done.err
    assert BAD[make] in done.err
    assert "Traceback" not in done.err
    assert sorted(path.name for path in (tmp_path / "out/tiny").iterdir()) == ["song"]
    assert len(list((tmp_path / "out/tiny/song").iterdir())) == 4


@pytest.mark.parametrize(
    "samples", [np.zeros((1, 2)), np.zeros((4410, 2)), np.zeros((44100, 1)), np.full((1, 1), 0.25)]
)
def test_short_and_silent_songs_are_songs(cli: Cli, tiny: Path, tmp_path: Path, samples: np.ndarray) -> None:
    soundfile.write(tmp_path / "song.wav", samples, 44100, "PCM_16")
    done = cli(tmp_path / "song.wav", "-m", tiny, "-o", tmp_path, "--name", "{stem}.{ext}", "--bits", "float")
    assert done.code == 0, done.err
    total = sum(
        soundfile.read(tmp_path / f"{stem}.wav", always_2d=True)[0] for stem in ("vocals", "drums", "bass", "other")
    )
    assert total.shape == samples.shape
    assert np.abs(total - samples).max() < 1e-6


def test_no_permission_to_read(tiny: Path, song: Path, tmp_path: Path) -> None:
    """Shown on the reader itself, for nobody may not be allowed to import the package of whoever runs the tests."""
    if os.geteuid() == 0:
        pid = os.fork()
        if pid == 0:
            os._exit(_read_as_nobody(song))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    else:
        assert _read_as_nobody(song) == 7


def _read_as_nobody(song: Path) -> int:
    from separate.audio.reader import AudioReader
    from separate.errors import InputError

    song.chmod(0)
    if os.geteuid() == 0:
        os.chmod(song.parent, 0o755)
        os.setuid(65534)
    try:
        AudioReader(song)
    except InputError as error:
        return 7 if "ermission" in str(error) and "\n" not in str(error) else 1
    return 2


def test_an_output_folder_that_is_a_file(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("I am a file")
    done = cli(song, "-m", tiny, "-o", tmp_path / "out")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert str(tmp_path / "out") in done.err
    assert (tmp_path / "out").read_text() == "I am a file"


def test_an_output_that_is_the_input(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    before = song.read_bytes()
    done = cli(song, "-m", tiny, "-o", tmp_path, "--name", "{track}.{ext}", "--stems", "vocals", "--force")
    assert done.code == 1
    assert "would overwrite itself" in done.err
    assert song.read_bytes() == before


def test_outputs_that_collide(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    samples, rate = soundfile.read(song)
    soundfile.write(tmp_path / "a.b.wav", samples, rate)
    soundfile.write(tmp_path / "a.b.flac", samples, rate)
    done = cli(tmp_path / "a.b.wav", tmp_path / "a.b.flac", "-m", tiny, "-o", tmp_path / "out", "-q")
    assert done.code == 1
    assert len(done.err.splitlines()) == 1
    assert f"is that of {tmp_path / 'a.b.wav'} too" in done.err
    assert (tmp_path / "out/tiny/a.b/vocals.wav").is_file()


@pytest.mark.parametrize("format", ["wav", "flac", "ogg", "opus", "mp3", "m4a"])
def test_a_full_disk(tiny: Path, tmp_path: Path, format: str) -> None:
    """No file may grow beyond some KiB, as on a disk that is full: an error, exit code 1, nothing left behind."""
    soundfile.write(tmp_path / "song.wav", music(20.0, 48000).T, 48000, "PCM_16")

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "out"
    command = [sys.executable, "-m", "separate", str(tmp_path / "song.wav"), "-m", str(tiny), "-o", str(out), "-q"]
    done = subprocess.run([*command, "--format", format], capture_output=True, text=True, preexec_fn=limit, check=False)
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("separate: ")
    assert not [path for path in out.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--model", "d2-grue"], 3, "unknown model 'd2-grue': did you mean d2-gru or d2-gru-research?"),
        (["--model", "./none.safetensors"], 3, "no such checkpoint file"),
        (["--model", "hf:nonsense"], 3, "is written hf:user/repo/file.safetensors@revision"),
        (["--stems", "guitar"], 2, "--stems 'guitar': this model separates vocals, drums, bass, other"),
        (["--stems", ","], 2, "names no stem"),
        (["--device", "cuda:77"], 2, "no device 'cuda:77'"),
        (["--device", "toaster"], 2, "unknown device 'toaster'"),
        (["--precision", "float8"], 2, "float8"),
        (["--format", "xyz"], 2, "xyz"),
        (["--format", "flac", "--bits", "float"], 2, "flac takes 16, 24"),
        (["--format", "mp3", "--bits", "24"], 2, "mp3 is lossy"),
        (["--overlap", "1"], 2, "overlap is a share from 0 to 0.95"),
        (["--segment", "0.001"], 2, "too short"),
        (["--start", "x"], 2, "'x' is no time"),
        (["--start", "2", "--end", "1"], 2, "--end 1 must come after --start 2"),
        (["--start", "100"], 1, "no samples after 100 s"),
        (["--rate", "7"], 2, "8000"),
        (["--name", "{what}"], 2, "use only {model}"),
        (["--name", "same.wav"], 2, "needs {stem}"),
        (["--force", "--skip-existing"], 2, "choose one"),
        (["--out", "-"], 2, "writes one stem of one song"),
        (["--out", "-", "--format", "flac", "--stems", "bass"], 2, "--out - writes WAV"),
        (["--clip", "none", "--bits", "24"], 2, "--clip none: wav with 24 bits ends at full scale"),
        (["--clip", "none", "--format", "mp3"], 2, "--clip none: mp3 ends at full scale"),
        (["--clip", "none"], 1, "--clip none"),
        (["--json", "--out", "-"], 2, "both want standard output"),
        (["--wiener", "1", "--griffin-lim", "1"], 2, "exclude each other"),
        (["--nonsense"], 2, "--nonsense"),
    ],
)
def test_wrong_usage(
    cli: Cli,
    tiny: Path,
    song: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(song, "-m", tiny, *arguments)
    assert done.code == code, done.err
    assert len(done.err.splitlines()) == 1, done.err
    assert said in done.err
    assert done.out == ""
    assert not list(tmp_path.rglob("*.wav"))[1:]


def test_no_input_at_all_shows_the_help(cli: Cli) -> None:
    done = cli()
    assert "Usage: separate INPUT" in done.out + done.err


def test_a_torchaudio_that_does_not_match(tiny: Path, tmp_path: Path) -> None:
    """A song at the model's own rate needs no torchaudio; another one fails with the pair to install."""
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio/__init__.py").write_text("raise OSError('libtorchaudio.so: undefined symbol: _ZN3c10')")
    for rate in (44100, 48000):
        soundfile.write(tmp_path / f"{rate}.wav", music(0.5, rate).T, rate)
    command = [sys.executable, "-m", "separate", "44100.wav", "48000.wav", "-m", str(tiny), "-q"]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "torchaudio==" in done.stderr
    assert (tmp_path / "separated/tiny/44100/vocals.wav").is_file()
    assert not (tmp_path / "separated/tiny/48000").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that somebody is in")
def test_a_current_folder_that_is_there_no_more(
    cli: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    outcome = cli("song.wav")
    assert (outcome.code, outcome.err) == (1, "separate: the current folder is there no more: go to another\n")
