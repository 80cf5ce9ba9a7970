from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor

from separate.datasets import (
    LAYOUTS,
    Song,
    StemFile,
    Track,
    accompaniment,
    audible,
    find_tracks,
    read_track,
    scored_together,
    stem_name,
)
from separate.errors import InputError, UsageError

RATE = 8000
FOUR = ("vocals", "drums", "bass", "other")
PITCHES = {"mixture": 200.0, "vocals": 400.0, "drums": 600.0, "bass": 800.0, "other": 1000.0}


def tone(pitch: float, seconds: float = 0.5, rate: int = RATE, channels: int = 2) -> NDArray[np.float32]:
    """Make (time, channel)."""
    wave = 0.15 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def write(path: Path, audio: NDArray[np.float32] | None = None, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = tone(PITCHES.get(path.stem, 300.0)) if audio is None else audio
    soundfile.write(path, samples, rate, "FLOAT" if path.suffix == ".wav" else None)
    return path


def write_stem_mp4(path: Path, seconds: float = 0.5) -> Path:
    """Write what MUSDB18 has: the mixture, drums, bass, other and vocals as five AAC streams of one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="mp4") as container:
        streams: list[Any] = [container.add_stream("aac", rate=44100, layout="stereo") for _ in range(5)]
        for stream, name in zip(streams, ("mixture", "drums", "bass", "other", "vocals"), strict=True):
            audio = tone(PITCHES[name], seconds, 44100).T
            for at in range(0, audio.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(audio[:, at : at + 1024]), "fltp", "stereo")
                frame.sample_rate, frame.pts, frame.time_base = 44100, at, Fraction(1, 44100)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


def musdb18_hq(root: Path) -> None:
    for track in ("train/B - Two", "train/A - One", "test/C - Three"):
        for stem in ("mixture", *FOUR):
            write(root / track / f"{stem}.wav")


def musdb18(root: Path) -> None:
    for track in ("train/B - Two", "train/A - One", "test/C - Three"):
        write_stem_mp4(root / f"{track}.stem.mp4", seconds=0.1)


def dsd100(root: Path) -> None:
    for track in ("Dev/B - Two", "Dev/A - One", "Test/C - Three"):
        write(root / "Mixtures" / track / "mixture.wav")
        for stem in FOUR:
            write(root / "Sources" / track / f"{stem}.wav")


def mir1k(root: Path) -> None:
    for name in ("amy_2_01", "abjones_1_01", "fdps_3_02"):
        both = np.concatenate([tone(500.0, channels=1), tone(PITCHES["vocals"], channels=1)], axis=1)
        write(root / "Wavfile" / f"{name}.wav", both)
        write(root / "UndividedWavfile" / f"{name[:-3]}.wav", both)


def pitch(audio: Tensor, rate: int) -> float:
    spectrum = torch.fft.rfft(audio[0] * torch.hann_window(audio.shape[1])).abs()
    return float(spectrum.argmax()) * rate / audio.shape[1]


@pytest.mark.parametrize(
    ("layout", "make", "names"),
    [
        ("musdb18-hq", musdb18_hq, ["test/C - Three", "train/A - One", "train/B - Two"]),
        ("musdb18", musdb18, ["test/C - Three", "train/A - One", "train/B - Two"]),
        ("dsd100", dsd100, ["Dev/A - One", "Dev/B - Two", "Test/C - Three"]),
        ("mir-1k", mir1k, ["abjones_1_01", "amy_2_01", "fdps_3_02"]),
    ],
)
def test_layouts_are_recognised(layout: str, make: Callable[[Path], None], names: list[str], tmp_path: Path) -> None:
    make(tmp_path)
    tracks = find_tracks(tmp_path)
    assert [track.name for track in tracks] == names
    assert tracks == find_tracks(str(tmp_path), layout=layout)
    stems = ["vocals", "accompaniment"] if layout == "mir-1k" else list(FOUR)
    assert all(list(track.stems) == stems for track in tracks)
    assert all((track.mixture is None) == (layout == "mir-1k") for track in tracks)
    train, test = (find_tracks(tmp_path, subset=subset) for subset in ("train", "Test"))
    assert len(train) == 2
    assert sorted([*train, *test], key=lambda track: track.name) == tracks


def test_musdb18_hq_is_laid_out_as_torchaudio_has_it(tmp_path: Path) -> None:
    from torchaudio.datasets import MUSDB_HQ

    musdb18_hq(tmp_path / "musdb18hq")
    theirs = MUSDB_HQ(tmp_path, "train")
    ours = find_tracks(tmp_path / "musdb18hq", subset="train")
    assert sorted(theirs.names) == [Path(track.name).name for track in ours]


def test_a_stem_mp4_has_its_stems_in_streams(tmp_path: Path) -> None:
    write_stem_mp4(tmp_path / "test" / "A - One.stem.mp4", seconds=0.5)
    (track,) = find_tracks(tmp_path)
    song = read_track(track)
    assert song.rate == 44100
    assert song.warnings == ()
    for stem, samples in [*song.stems.items(), ("mixture", song.mixture)]:
        assert samples.shape == (2, 22050)
        assert pitch(samples, song.rate) == pytest.approx(PITCHES[stem], abs=4)
    part = read_track(track, start=0.1, end=0.3)
    assert torch.equal(part.stems["bass"], song.stems["bass"][:, 4410:13230])


def test_mir_1k_has_the_voice_on_the_right(tmp_path: Path) -> None:
    mir1k(tmp_path)
    (track,) = find_tracks(tmp_path, subset="amy")
    song = read_track(track)
    assert {stem: pitch(samples, RATE) for stem, samples in song.stems.items()} == {
        "vocals": 400,
        "accompaniment": 500,
    }
    assert song.mixture.shape == (1, RATE // 2)
    assert torch.equal(song.mixture, song.stems["vocals"] + song.stems["accompaniment"])
    assert find_tracks(tmp_path / "Wavfile") == find_tracks(tmp_path)


def test_mir_1k_may_be_pairs_of_files(tmp_path: Path) -> None:
    for name in ("amy_1_01.voice", "amy_1_01.accomp", "abjones_1_02_voice", "abjones_1_02_accomp", "lone.voice"):
        write(tmp_path / f"{name}.flac", tone(300.0, channels=1))
    tracks = find_tracks(tmp_path)
    assert [track.name for track in tracks] == ["abjones_1_02", "amy_1_01"]
    assert tracks[1].stems["vocals"] == (StemFile(tmp_path / "amy_1_01.voice.flac"),)


def test_any_tree_of_folders_with_stems_will_do(tmp_path: Path) -> None:
    for name in ("b/deep/song/Vocals.wav", "b/deep/song/instrumental.flac", "a/kazoo.ogg", "a/guitar.wav"):
        write(tmp_path / name)
    write(tmp_path / "b/deep/song/takes/vocals.wav")  # below a folder of stems
    write(tmp_path / "preview.wav")  # beside the folders of the tracks
    write(tmp_path / ".trash/vocals.wav")
    (tmp_path / "a/._guitar.wav").write_bytes(b"what macOS leaves behind")
    (tmp_path / "a/licence.txt").write_text("free")
    (tmp_path / "empty").mkdir()
    tracks = find_tracks(tmp_path)
    assert [(track.name, list(track.stems)) for track in tracks] == [
        ("a", ["guitar", "kazoo"]),
        ("b/deep/song", ["vocals", "accompaniment"]),
    ]
    assert [track.name for track in find_tracks(tmp_path, subset="b")] == ["b/deep/song"]


def test_a_track_is_a_data_set_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "song" / "vocals.wav")
    write(tmp_path / "song" / "mix.wav")
    (track,) = find_tracks(tmp_path / "song")
    assert track == Track(
        "song", {"vocals": (StemFile(tmp_path / "song/vocals.wav"),)}, StemFile(tmp_path / "song/mix.wav")
    )
    monkeypatch.chdir(tmp_path / "song")
    assert [track.name for track in find_tracks(".")] == ["song"]


@pytest.fixture
def track(tmp_path: Path) -> Track:
    """A track of four stems and a mixture that is not quite their sum, half a second at 8 kHz."""
    for stem in ("mixture", *FOUR):
        write(tmp_path / "song" / f"{stem}.wav")
    return find_tracks(tmp_path)[0]


def test_samples_are_those_of_the_files(track: Track) -> None:
    song = read_track(track)
    assert (song.rate, song.warnings) == (RATE, ())
    for stem, samples in [*song.stems.items(), ("mixture", song.mixture)]:
        assert samples.dtype == torch.float32
        assert np.array_equal(samples.numpy().T, tone(PITCHES[stem]))


@pytest.mark.parametrize(("start", "end"), [(0.1, 0.2), (0.25, None), (0.0, 0.1), (0.4, 9.0)])
def test_a_part_is_what_the_whole_has_there(start: float, end: float | None, track: Track) -> None:
    whole, part = read_track(track), read_track(track, start=start, end=end)
    last = None if end is None else round(end * RATE)
    assert torch.equal(part.mixture, whole.mixture[:, round(start * RATE) : last])
    assert torch.equal(part.stems["bass"], whole.stems["bass"][:, round(start * RATE) : last])


def test_another_rate(track: Track) -> None:
    song = read_track(track, rate=16000)
    assert (song.rate, song.mixture.shape) == (16000, (2, 8000))
    assert {stem: round(pitch(samples, 16000)) for stem, samples in song.stems.items()} == {
        stem: PITCHES[stem] for stem in FOUR
    }


def test_a_missing_mixture_is_the_sum_of_the_stems(track: Track) -> None:
    song = read_track(Track(track.name, track.stems))
    torch.testing.assert_close(song.mixture, sum(song.stems.values()))


def test_a_missing_mixture_counts_nothing_twice(tmp_path: Path) -> None:
    for stem in ("vocals", "drums", "accompaniment"):
        write(tmp_path / f"{stem}.wav")
    song = read_track(find_tracks(tmp_path)[0])
    torch.testing.assert_close(song.mixture, song.stems["vocals"] + song.stems["accompaniment"])


def test_a_stem_may_be_the_sum_of_files(track: Track) -> None:
    both = Track("both", {"rhythm": track.stems["drums"] + track.stems["bass"]}, track.mixture)
    song, parts = read_track(both), read_track(track).stems
    assert torch.equal(song.stems["rhythm"], parts["drums"] + parts["bass"])


def test_files_of_nearly_one_length_are_trimmed_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path / "song/vocals.wav", tone(400, 2.0))
    write(tmp_path / "song/drums.wav", tone(400, 1.25))
    song = read_track(find_tracks(tmp_path)[0])
    assert song.mixture.shape == song.stems["vocals"].shape == (2, 10000)
    (warning,) = song.warnings
    assert warning == (
        f"song: {tmp_path}/song/drums.wav is 750 ms shorter than {tmp_path}/song/vocals.wav; all were trimmed to it"
    )


def bad(folder: Path, name: str, **what: Any) -> Path:
    return write(folder / name, tone(400, **what), what.get("rate", RATE))


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:6000])
    return path


def spoilt(path: Path) -> Path:
    samples = tone(400)
    samples[3000] = np.nan
    return write(path, samples)


@pytest.mark.parametrize(
    ("spoil", "complaints"),
    [
        (lambda song: bad(song, "bass.wav", seconds=2.0), ["vocals.wav: is 1.50 s shorter than", "bass.wav"]),
        (lambda song: bad(song, "bass.wav", rate=16000), ["bass.wav: has 16000 Hz", "vocals.wav 8000 Hz"]),
        (lambda song: bad(song, "bass.wav", channels=1), ["bass.wav: has 1 channels", "vocals.wav 2"]),
        (lambda song: bad(song, "mixture.wav", channels=1), ["mixture.wav: has 1 channels", "vocals.wav 2"]),
        (lambda song: bad(song, "bass.wav", seconds=0.0), ["bass.wav: holds no samples"]),
        (lambda song: spoilt(song / "bass.wav"), ["bass.wav: sample 3000", "nan"]),
        (lambda song: cut(song / "bass.wav"), ["bass.wav: its header promises"]),
        (lambda song: (song / "bass.wav").write_bytes(b""), ["bass.wav: is empty"]),
        (lambda song: (song / "bass.wav").unlink(), ["bass.wav: no such file"]),
    ],
)
def test_files_that_cannot_be_read_or_do_not_belong_together(
    spoil: Callable[[Path], object], complaints: list[str], track: Track
) -> None:
    spoil(track.stems["bass"][0].path.parent)
    with pytest.raises(InputError) as caught:
        read_track(track)
    for complaint in complaints:
        assert complaint in str(caught.value)


def test_a_part_behind_the_end(track: Track) -> None:
    with pytest.raises(InputError, match=r"vocals.wav: holds no samples after 3 s"):
        read_track(track, start=3)
    with pytest.raises(UsageError, match="end must come after start"):
        read_track(track, start=0.2, end=0.1)


@pytest.mark.parametrize(
    ("start", "end"), [(float("nan"), None), (0.0, float("nan")), (float("inf"), None), (1e308, None), (0.0, 1e308)]
)
def test_a_part_that_no_song_has(start: float, end: float | None, track: Track) -> None:
    with pytest.raises(UsageError, match=rf"start {re.escape(str(start))} s, end .*: end must come after start, both"):
        read_track(track, start=start, end=end)


def test_a_track_without_files() -> None:
    with pytest.raises(InputError, match="song: has no stems; a track is a folder"):
        read_track(Track("song", {}))


def test_a_stream_or_a_channel_that_is_not_there(tmp_path: Path, track: Track) -> None:
    path = write_stem_mp4(tmp_path / "a.mp4", 0.1)
    with pytest.raises(InputError, match=r"a.mp4, stream 5: has no sound stream 5, only 5, counted from 0"):
        read_track(Track("a", {"vocals": (StemFile(path, stream=5),)}))
    with pytest.raises(InputError, match=r"vocals.wav: has 2 channels, but channel 3 is a stem here"):
        read_track(Track("a", {"vocals": (StemFile(track.stems["vocals"][0].path, channel=2),)}))


@pytest.mark.parametrize("layout", ["auto", *LAYOUTS])
def test_folders_without_tracks(layout: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "notes.txt").write_text("nothing to hear")
    with pytest.raises(InputError, match=f"{tmp_path}: no .* in this folder; a track is a folder"):
        find_tracks(tmp_path, layout=layout)


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere: no such folder"):
        find_tracks(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"song.wav: is a file, not a folder of tracks"):
        find_tracks(write(tmp_path / "song.wav"))
    with pytest.raises(InputError, match="cannot be read"):
        find_tracks("a\0b")


def test_unknown_layouts_and_subsets(track: Track, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="layout 'musdb': is not known; use auto, dsd100, musdb18, mir-1k"):
        find_tracks(tmp_path, layout="musdb")
    with pytest.raises(UsageError, match="no subset 'test' in it; it has no subsets"):
        find_tracks(tmp_path, subset="test")
    write(tmp_path / "dev" / "song" / "vocals.wav")
    with pytest.raises(UsageError, match="no subset 'test' in it; its subsets are dev"):
        find_tracks(tmp_path, subset="test")


def test_two_files_that_claim_to_be_one_stem(tmp_path: Path) -> None:
    write(tmp_path / "vocals.wav")
    write(tmp_path / "voice.flac")
    with pytest.raises(InputError, match=r"voice.flac: is vocals, but so is .*vocals.wav; keep one of them"):
        find_tracks(tmp_path)


def test_messages_stay_on_one_line(tmp_path: Path) -> None:
    write(tmp_path / "two\nlines" / "vocals.wav", tone(400, seconds=0.0))
    with pytest.raises(InputError, match=r"two\\nlines/vocals.wav: holds no samples") as caught:
        read_track(find_tracks(tmp_path)[0])
    assert "\n" not in str(caught.value)


def noise(*names: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(1, 50, generator=generator) for name in names}


def of(stems: Mapping[str, Tensor]) -> Song:
    return Song(RATE, dict(stems), sum(stems.values(), torch.zeros(1, 50)))


def test_the_accompaniment_is_all_but_the_vocals() -> None:
    stems = noise(*FOUR)
    mixture = noise("mixture")["mixture"]
    assert torch.equal(accompaniment(stems, mixture), stems["drums"] + stems["bass"] + stems["other"])
    assert torch.equal(accompaniment(stems | {"accompaniment": mixture}, mixture), mixture)
    assert torch.equal(accompaniment({"vocals": stems["vocals"]}, mixture), mixture - stems["vocals"])
    assert torch.equal(accompaniment({"drums": stems["drums"]}, mixture), stems["drums"])


def test_stems_are_scored_in_groups_that_share_out_the_song() -> None:
    groups = [list(group) for group in scored_together(of(noise(*FOUR)))]
    assert groups == [list(FOUR), ["vocals", "accompaniment"]]
    groups = [list(group) for group in scored_together(of(noise("vocals", "accompaniment")))]
    assert groups == [["vocals", "accompaniment"]]
    assert [list(group) for group in scored_together(of(noise("drums", "other")))] == [
        ["drums", "other"],
        ["accompaniment"],
    ]


def test_silent_stems_are_not_scored() -> None:
    stems = noise(*FOUR)
    stems["bass"].zero_()
    assert list(audible(stems)) == ["vocals", "drums", "other"]
    first, second = scored_together(of(stems))
    assert list(first) == ["vocals", "drums", "other"]
    assert list(second) == ["vocals", "accompaniment"]
    assert scored_together(of({name: torch.zeros(1, 50) for name in FOUR})) == []


def test_vocals_without_a_file_are_what_the_accompaniment_leaves() -> None:
    stems = noise("vocals", "accompaniment")
    song = Song(RATE, {"accompaniment": stems["accompaniment"]}, sum(stems.values(), torch.zeros(1, 50)))
    (group,) = scored_together(song)
    torch.testing.assert_close(group, stems)


@pytest.mark.parametrize("name", ["Mix", "voice", "VOCAL", "accomp", "no_vocals", "kazoo"])
def test_stems_have_aliases(name: str) -> None:
    assert stem_name(name) in {"mixture", "vocals", "accompaniment", "kazoo"}
    assert stem_name(stem_name(name)) == stem_name(name)
