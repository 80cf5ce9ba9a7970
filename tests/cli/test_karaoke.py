# mypy: allow-untyped-calls
# (mutagen is a package without types)
"""`--karaoke`, `--only`, `--without` and `--stem-mp4`: what is in the files, what they are called and tagged."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pytest
import soundfile
import torch
from mutagen.flac import Picture
from mutagen.id3 import APIC, TIT2, TPE1, TRCK
from mutagen.mp4 import MP4Cover
from numpy.typing import NDArray

from separate import AudioReader, Separator
from separate.audio.formats import choose_format
from separate.audio.writer import StemWriter
from separate.batch.job import Job, Output
from separate.batch.local import attempt
from separate.batch.mixdown import Mixdown
from separate.checkpoints.weights import save
from separate.cli.outputs import level_in
from separate.models import build
from tests.conftest import TINY, Outcome, music

Cli = Callable[..., Outcome]


def samples(path: Path, stream: int | None = None) -> NDArray[np.float32]:
    with AudioReader(path, stream=stream) as reader:
        return np.concatenate([np.zeros((reader.channels, 0), np.float32), *reader.blocks()], 1)


def decibels(samples: NDArray[np.float32], of: NDArray[np.float32]) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) / np.mean(of.astype(np.float64) ** 2)))


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (48000, 2), (48000, 1), (44100, 5)])
def test_karaoke_and_vocals_null_against_the_song(
    cli: Cli, tiny: Path, tmp_path: Path, rate: int, channels: int
) -> None:
    mix = music(0.8, rate, channels)
    soundfile.write(tmp_path / "song.wav", mix.T, rate, "PCM_24")
    done = cli(tmp_path / "song.wav", "-m", tiny, "-o", tmp_path / "out", "--karaoke", "--also", "vocals", "-q")
    assert done.code == 0, done.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.*") if path.name[0] != ".") == [
        "song (karaoke).wav",
        "song (vocals).wav",
    ]
    karaoke, vocals = (samples(tmp_path / "out" / f"song ({stem}).wav") for stem in ("karaoke", "vocals"))
    song = samples(tmp_path / "song.wav")
    assert decibels(karaoke + vocals - song, song) < -90
    assert decibels(karaoke - song, song) > -60  # a voice is gone
    assert np.abs(karaoke).max() <= np.abs(song).max()


def test_a_model_whose_stems_do_not_sum_and_a_rest_that_is_too_loud(cli: Cli, song: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("wave-u-net", {"levels": 2, "filters": 4, "output": "direct"})
    assert not model.sums
    save(tmp_path / "loose.safetensors", model, architecture="wave-u-net", licence="MIT", training={})
    run = (song, "-m", tmp_path / "loose.safetensors", "-o", tmp_path, "--bits", "24", "-q")
    done = cli(*run, "--karaoke", "--also", "vocals", "--json")
    assert done.code == 0, done.err
    gain = json.loads(done.out)["gain"]
    assert 0.5 < gain < 0.99
    mix, karaoke, vocals = (
        samples(tmp_path / name) for name in ("song.wav", "song (karaoke).wav", "song (vocals).wav")
    )
    assert np.abs(karaoke).max() == pytest.approx(np.abs(mix).max(), rel=1e-5)
    assert decibels(karaoke + vocals - gain * mix, mix) < -90
    assert not np.array_equal(karaoke, vocals)
    plain = ("--karaoke", "--also", "vocals", "--force", "--bits", "float", "--clip", "none", "--json")
    assert json.loads(cli(*run, *plain).out)["gain"] == 1
    total = samples(tmp_path / "song (karaoke).wav") + samples(tmp_path / "song (vocals).wav")
    assert decibels(total - mix, mix) < -120
    said = cli(*run[:-1], "--karaoke", "--force").err
    assert f"all stems were turned down by {-20 * np.log10(gain):.2f} dB so that none is louder than the song" in said


@pytest.mark.parametrize("format", ["flac", "mp3", "m4a", "opus"])
def test_length_and_tags_survive(cli: Cli, tiny: Path, tmp_path: Path, format: str) -> None:
    """From every format into the same: as long to the sample, tags and cover art kept, the title says what it is."""
    rate = 48000
    mix = music(0.9, rate)
    song = tmp_path / f"song.{format}"
    encode(mix, rate, song)
    tag(song, format)
    done = cli(song, "-m", tiny, "-o", tmp_path / "out", "--karaoke", "--format", format, "-q")
    assert done.code == 0, done.err
    karaoke = tmp_path / "out" / f"song (karaoke).{format}"
    assert samples(song).shape == samples(karaoke).shape == mix.shape
    with av.open(str(song)) as before, av.open(str(karaoke)) as after:
        assert [len(file.streams.audio) for file in (before, after)] == [1, 1]
        assert after.duration == pytest.approx(before.duration, abs=30_000)  # microseconds, as players show it
    found, was = mutagen.File(karaoke), mutagen.File(song)
    title, artist, track = {
        "flac": ("title", "artist", "tracknumber"),
        "opus": ("title", "artist", "tracknumber"),
        "mp3": ("TIT2", "TPE1", "TRCK"),
        "m4a": ("©nam", "©ART", "trkn"),
    }[format]
    assert str(found[title][0]) == "A Song (karaoke)"
    assert (str(found[artist][0]), found[track]) == ("Someone", was[track])
    assert b"\x89PNG" in karaoke.read_bytes() or "metadata_block_picture" in found
    if format == "mp3":
        assert found.info.encoder_info.startswith("LAME")  # the frame that says what to leave out at the ends


def encode(mix: NDArray[np.float32], rate: int, song: Path) -> None:
    """Make a song in any format."""
    format_ = choose_format(song.suffix, None, 16, False)
    with StemWriter({"song": song}, rate=rate, channels=len(mix), format=format_) as writer:
        writer.write({"song": mix})


def tag(song: Path, format: str) -> None:
    """Give a song tags and a picture, with mutagen alone."""
    file = mutagen.File(song)
    if file.tags is None:
        file.add_tags()
    data = b"\x89PNG\r\n\x1a\n" + bytes(500)
    picture = Picture()
    picture.data, picture.mime, picture.type = data, "image/png", 3
    if format == "mp3":
        for frame in (TIT2(text="A Song"), TPE1(text="Someone"), TRCK(text="3/12"), APIC(mime="image/png", data=data)):
            file.tags.add(frame)
    elif format == "m4a":
        file["©nam"], file["©ART"], file["trkn"] = ["A Song"], ["Someone"], [(3, 12)]
        file["covr"] = [MP4Cover(data, MP4Cover.FORMAT_PNG)]
    else:
        file["title"], file["artist"], file["tracknumber"] = "A Song", "Someone", "3"
        if format == "flac":
            file.add_picture(picture)
        else:
            file["metadata_block_picture"] = [base64.b64encode(picture.write()).decode()]
    file.save()


def test_a_guide_is_the_voice_turned_down(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    assert cli(song, "-m", tiny, "-o", tmp_path, "--karaoke", "--guide", "-14dB", "--bits", "24", "-q").code == 0
    stems = Separator(tiny, device="cpu").separate(song, stems=["vocals", "mixture"])
    expected = stems["mixture"] - (1 - 10 ** (-14 / 20)) * stems["vocals"]
    assert np.abs(samples(tmp_path / "song (karaoke).wav") - expected).max() < 2**-22


@pytest.mark.parametrize("text", ["-20dB", "-20", " -20.0 DB "])
def test_levels(text: str) -> None:
    assert level_in(text) == pytest.approx(0.1)


def test_level_is_said_and_heard(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    done = cli(song, "-m", tiny, "-o", tmp_path, "--karaoke", "--level", "--bits", "24")
    assert done.code == 0, done.err
    assert "song.wav: karaoke was turned up by" in done.err
    stems = Separator(tiny, device="cpu").separate(song, stems=["vocals", "mixture"])
    plain, raised = stems["mixture"] - stems["vocals"], samples(tmp_path / "song (karaoke).wav")
    gain = float((raised * plain).sum() / (plain**2).sum())
    assert gain > 1
    assert np.abs(raised - gain * plain).max() < 2**-21
    assert np.abs(raised).max() <= np.abs(stems["mixture"]).max() + 2**-22


def test_one_stem_against_the_rest(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    run = (song, "-m", tiny, "-o", tmp_path / "out", "--bits", "24", "-q")
    assert cli(*run, "--only", "drums, vocals", "--without", "vocals,drums").code == 0
    folder = tmp_path / "out/tiny/song"
    assert sorted(path.name for path in folder.iterdir()) == ["no_vocals_drums.wav", "vocals_drums.wav"]
    mix = samples(song)
    total = samples(folder / "no_vocals_drums.wav") + samples(folder / "vocals_drums.wav")
    assert decibels(total - mix, mix) < -90
    stems = Separator(tiny, device="cpu").separate(song, stems=["vocals", "drums"])
    assert np.abs(samples(folder / "vocals_drums.wav") - stems["vocals"] - stems["drums"]).max() < 2**-22
    assert cli(*run, "--without", "bass").code == 0
    assert (folder / "no_bass.wav").is_file()
    assert cli(*run, "--only", "bass").code == 0
    assert np.abs(samples(folder / "bass.wav") - Separator(tiny, device="cpu").separate(song)["bass"]).max() < 2**-22


def test_folders_keep_their_tree_and_names_do_not_collide(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    for name in ("album/one.wav", "album/cd 2/one.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(song.read_bytes())
    run = (tmp_path / "album", "-m", tiny, "-o", tmp_path / "out", "--karaoke", "-q")
    assert cli(*run).code == 0
    assert (tmp_path / "out/one (karaoke).wav").is_file()
    assert (tmp_path / "out/cd 2/one (karaoke).wav").is_file()
    soundfile.write(tmp_path / "album/one.flac", samples(song).T, 44100)
    refused = cli(*run, "--force")
    assert refused.code == 1
    assert "one (karaoke).wav is that of" in refused.err
    assert cli(*run, "--name", "{track}.{suffix} ({stem}).{ext}").code == 0
    assert (tmp_path / "out/one.flac (karaoke).wav").is_file()


def test_existing_files_are_refused_left_or_made_complete(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    run = (song, "-m", tiny, "-o", tmp_path / "out", "--karaoke")
    assert cli(*run).code == 0
    karaoke = tmp_path / "out/song (karaoke).wav"
    before = karaoke.read_bytes()
    assert "--force overwrites it" in cli(*run).err
    assert "skipped" in cli(*run, "--skip-existing").err
    assert cli(*run, "--also", "vocals", "--skip-existing").code == 0
    assert (tmp_path / "out/song (vocals).wav").is_file()
    assert karaoke.read_bytes() == before
    assert "was made with other options" in cli(*run, "--guide", "-10", "--resume", "--dry-run").out


def test_to_a_pipe(tiny: Path, song: Path) -> None:
    """What `--karaoke --out -` does with standard output, which here is in memory."""
    pipe = io.BytesIO()
    mixdown = Mixdown(("karaoke",), {"karaoke": ({"mixture": 1.0, "vocals": -1.0},)})
    separator = Separator(tiny, device="cpu")
    job, output = Job(str(song), {"karaoke": Path("karaoke.wav")}), Output(stdout=pipe, mixdown=mixdown)
    result = attempt(job, separator, output, lambda message: None, lambda done, total: None)
    assert (result.error, result.gain, result.audio_seconds) == (None, 1.0, 1.5)
    written, _ = soundfile.read(io.BytesIO(pipe.getvalue()), dtype="float32")
    stems = separator.separate(song, stems=["vocals", "mixture"])
    assert np.abs(written.T - (stems["mixture"] - stems["vocals"])).max() < 1 / 32768


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (22050, 1)])
def test_a_stem_mp4_has_the_song_and_its_stems(cli: Cli, tiny: Path, tmp_path: Path, rate: int, channels: int) -> None:
    mix = music(1.1, rate, channels)
    soundfile.write(tmp_path / "song.flac", mix.T, rate)
    song = mutagen.File(tmp_path / "song.flac")
    song["title"] = "A Song"
    song.save()
    done = cli(tmp_path / "song.flac", "-m", tiny, "-o", tmp_path / "out", "--stem-mp4")
    assert done.code == 0, done.err
    path = tmp_path / "out/song.stem.mp4"
    with av.open(str(path)) as file:
        assert [(each.codec_context.name, each.rate) for each in file.streams.audio] == [("aac", 44100)] * 5
        assert len(file.streams) == 5
    assert mutagen.File(path)["©nam"] == ["A Song"]
    stems = Separator(tiny, device="cpu").separate(
        tmp_path / "song.flac", stems=["mixture", "drums", "bass", "other", "vocals"], rate=44100
    )
    for number, expected in enumerate(stems.values()):
        decoded = samples(path, number)
        assert decoded.shape == (2, 48510)
        assert decibels((decoded - expected)[:, 2000:-2000], expected) < -12


def test_a_stem_mp4_of_surround_sound_is_refused(cli: Cli, tiny: Path, song: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "five.wav", music(0.3, 44100, 5).T, 44100)
    done = cli(tmp_path / "five.wav", song, "-m", tiny, "-o", tmp_path / "out", "--stem-mp4")
    assert done.code == 1
    assert "five.wav: has 5 channels, and .stem.mp4 is stereo; leave --stem-mp4 out" in done.err
    assert [path.name for path in (tmp_path / "out").glob("[!.]*")] == ["song.stem.mp4"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--karaoke --only vocals", "--karaoke and --only each say what is written: choose one"),
        ("--karaoke --stems vocals", "--stems and --karaoke each say"),
        ("--stem-mp4 --without vocals", "--without and --stem-mp4 each say"),
        ("--karaoke --only bass --without bass", "--karaoke and --only and --without each say"),
        ("--guide -14dB", "--guide -14dB belongs to --karaoke"),
        ("--only vocals --also drums", "--also drums belongs to --karaoke"),
        ("--level", "--level is for what is left of a song: add --karaoke or --without"),
        ("--only vocals --level", "--level is for what is left of a song"),
        ("--karaoke --level --out -", "--level is known at the song's end only"),
        ("--karaoke --guide loud", "--guide 'loud' is no level below the original's: write it in dB, as in -14dB"),
        ("--karaoke --guide 0", "--guide '0' is no level"),
        ("--karaoke --guide -0dB", "--guide '-0dB' is no level"),
        ("--karaoke --guide 6dB", "--guide '6dB' is no level"),
        ("--karaoke --guide -infdB", "is no level"),
        ("--karaoke --guide=", "--guide '' is no level"),
        ("--karaoke --also guitar", "--also 'guitar': this model separates vocals, drums, bass, other"),
        ("--karaoke --also ,", "--also ',' names no stem"),
        ("--without piano", "--without 'piano': this model separates"),
        ("--only=", "--only '' names no stem"),
        ("--karaoke --also vocals --out -", "--out - writes one stem of one song"),
        ("--only vocals --without vocals --out -", "--out - writes one stem of one song"),
        ("--stem-mp4 --out -", "--stem-mp4 cannot be written to standard output"),
        ("--stem-mp4 --format flac", "--stem-mp4 is a format of its own: leave --format flac out"),
        ("--stem-mp4 --bits 24", "stem.mp4 is lossy and has no bit depth"),
        ("--stem-mp4 --clip none", "--clip none: stem.mp4 ends at full scale"),
        ("--karaoke --name {track}.{ext} --also vocals", "needs {stem}, or karaoke and vocals would be one file"),
    ],
)
def test_contradictions(cli: Cli, tiny: Path, song: Path, tmp_path: Path, options: str, said: str) -> None:
    done = cli(song, "-m", tiny, "-o", tmp_path / "out", *options.split())
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_model_without_vocals(cli: Cli, song: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "drums.safetensors"
    save(
        path, build("d2-gru", TINY | {"sources": ["drums", "rest"]}), architecture="d2-gru", licence="MIT", training={}
    )
    done = cli(song, "-m", path, "--karaoke")
    assert done.code == 2
    assert "--karaoke: this model has no vocals to take out, it separates drums, rest" in done.err
    done = cli(song, "-m", path, "--stem-mp4")
    assert done.code == 2
    assert "--stem-mp4 holds drums, bass, other, vocals; this model separates drums, rest" in done.err
    assert cli(song, "-m", path, "-o", tmp_path / "out", "--without", "drums", "-q").code == 0
    assert (tmp_path / "out/drums/song/no_drums.wav").is_file()
