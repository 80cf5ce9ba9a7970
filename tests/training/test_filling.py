from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from separate.errors import InputError, UsageError
from separate.training import filling
from separate.training.config import Data
from separate.training.filling import fill, held_out
from separate.training.pool import Song
from tests.training.conftest import SOURCES
from tests.training.corpora import registers, write_song


def test_folders_of_stems_are_decoded_once(songs: Path, tmp_path: Path) -> None:
    said: list[str] = []
    found = fill(tmp_path, [songs], Data(), 44100, said.append)
    assert sorted(song.name for song in found) == ["song 0", "song 1"]
    assert all(set(song.stems) == set(SOURCES) for song in found)
    for song in found:
        truth = soundfile.read(songs / song.name / "bass.wav")[0].T
        error = song.stems["bass"].float().numpy() * song.levels["bass"] - truth
        assert np.abs(error).max() < 1e-3 * np.abs(truth).max()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    assert [song.folder for song in fill(tmp_path, [songs], Data(), 44100, said.append)] == [s.folder for s in found]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")} == before
    assert not said
    assert [song.folder for song in fill(tmp_path / "no", [tmp_path], Data(), 44100, said.append)] == [
        song.folder for song in found
    ]


def test_what_changed_is_decoded_again(tmp_path: Path) -> None:
    write_song(tmp_path / "data/a", registers(0.3))
    [old] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)
    os.utime(tmp_path / "data/a/bass.wav", ns=(1, 1))
    [new] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)
    assert new.folder != old.folder


def test_songs_are_known_wherever_one_stands(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SECONDS", 5.0)
    write_song(tmp_path / "data/a", registers(0.3))
    both = [tmp_path / "data", corpus]
    found = fill(tmp_path / "pool", both, Data(synthetic=1), 44100, print)
    monkeypatch.chdir(tmp_path)
    relative = [Path(os.path.relpath(folder)) for folder in both]
    again = fill(tmp_path / "pool", relative, Data(synthetic=1), 44100, print)
    assert [song.folder for song in again] == [song.folder for song in found]


def test_songs_of_absolute_names_keep_their_keys(tmp_path: Path) -> None:
    song = write_song(tmp_path.resolve() / "data/a", {"vocals": registers(0.3)["vocals"]})
    os.utime(song / "vocals.wav", ns=(1, 5))
    [found] = fill(tmp_path / "pool", [tmp_path.resolve() / "data"], Data(), 44100, print)
    facts = [(f"{song}/vocals.wav", (song / "vocals.wav").stat().st_size, 5)]
    assert found.folder.name == f"a-{hashlib.sha256(repr((facts, 44100, 0, ())).encode()).hexdigest()[:12]}"


def test_long_names_of_many_bytes_are_cut(tmp_path: Path) -> None:
    write_song(tmp_path / "data" / ("響" * 80), registers(0.2))
    [song] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)
    assert song.name == "響" * 80
    assert song.folder.name.startswith("響" * 66 + "-")


def test_of_many_channels_two_are_kept(tmp_path: Path) -> None:
    three = {stem: np.concatenate([x, x[:1]]) for stem, x in registers(0.3).items()}
    write_song(tmp_path / "data/a", three)
    found = fill(tmp_path / "pool", [tmp_path / "data"], Data(copies=1, reverb=1), 44100, print)
    assert [len(stem) for song in found for stem in song.stems.values()] == [2] * 8


def test_copies_are_altered(tmp_path: Path) -> None:
    write_song(tmp_path / "data/a", registers(0.5))
    odds = Data(copies=2, pitch=1, time=1, formants=1, reverb=1, compress=1, codec=1)
    plain, *copies = fill(tmp_path / "pool", [tmp_path / "data"], odds, 44100, print)
    assert len(copies) == 2
    assert {song.name for song in (plain, *copies)} == {"a"}
    assert len({song.length for song in (plain, *copies)}) == 3
    assert held_out([plain, *copies], 0.5) == ([plain, *copies], [plain])  # one song, however often


def test_recordings_of_a_lower_rate_know_less(tmp_path: Path) -> None:
    stems = registers(0.4)
    write_song(tmp_path / "data/a", {"voice": stems["bass"][:1], "accomp": stems["other"][:1]}, 16000)
    [song] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)
    assert set(song.stems) == {"vocals", "accompaniment"}
    assert song.limit == 8000
    [slow] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 8000, print)
    assert (slow.rate, slow.limit) == (8000, 4000)
    assert slow.length / 8000 == pytest.approx(song.length / 44100, abs=2e-4)


def test_vocals_and_a_mixture_are_enough(tmp_path: Path) -> None:
    stems = registers(0.3)
    write_song(tmp_path / "data/a", {"vocals": stems["vocals"], "mixture": stems["vocals"] + stems["bass"]})
    [song] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)
    rest = song.stems["accompaniment"].float() * song.levels["accompaniment"]
    assert torch.allclose(rest, torch.from_numpy(stems["bass"]).float(), atol=1e-3)


@pytest.mark.parametrize("known", [("vocals", "drums", "bass"), ("vocals", "drums")])
def test_what_is_left_of_a_mixture_is_other(tmp_path: Path, known: tuple[str, ...]) -> None:
    stems = registers(1.0)
    write_song(
        tmp_path / "songs/a",
        {stem: stems[stem] for stem in known} | {"mixture": sum(stems.values(), start=np.zeros(1))},
    )
    [song] = fill(tmp_path / "pool", [tmp_path / "songs"], Data(), 44100, print)
    rest = sum(x for stem, x in stems.items() if stem not in known)
    assert set(song.stems) == {*known, "other"}
    other = song.stems["other"].double() * song.levels["other"]
    assert np.allclose(other, rest, atol=2e-3)


@pytest.mark.parametrize("known", [("drums",), ()])
def test_a_mixture_whose_vocals_nobody_knows_is_left_out(tmp_path: Path, known: tuple[str, ...]) -> None:
    said: list[str] = []
    stems = registers(1.0)
    write_song(
        tmp_path / "songs/a",
        {stem: stems[stem] for stem in known} | {"mixture": sum(stems.values(), start=np.zeros(1))},
    )
    with pytest.raises(InputError, match="nothing to train with"):
        fill(tmp_path / "pool", [tmp_path / "songs"], Data(), 44100, said.append)
    what = " and ".join(known) or "no stem"
    assert said == [
        f"skipped a: a mixture and {what}; add its vocals: the rest is computed",
        "songs skipped: 1 of 1",
    ]


def test_a_corrupt_song_is_named_skipped_and_counted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_song(tmp_path / "data" / name, registers(0.3))
    whole = (tmp_path / "data/b/drums.wav").read_bytes()
    (tmp_path / "data/b/drums.wav").write_bytes(whole[: len(whole) // 2])
    said: list[str] = []
    found = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, said.append)
    assert [song.name for song in found] == ["a", "c"]
    assert len(said) == 2
    assert said[0].startswith(f"skipped {tmp_path}/data/b/drums.wav: its header promises")
    assert said[1] == "songs skipped: 1 of 3"
    (tmp_path / "data/a/bass.wav").write_text("no sound")
    (tmp_path / "data/c/bass.wav").write_text("no sound")
    with pytest.raises(InputError, match="data: nothing to train with"):
        fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, said.append)


def test_a_song_of_samples_beyond_all_measure_is_skipped(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_song(tmp_path / "data" / name, registers(0.3))
    huge = registers(0.3)["bass"].astype(np.float32)
    huge[0, 50] = 3e38
    soundfile.write(tmp_path / "data/b/bass.wav", huge.T, 44100, "FLOAT")
    said: list[str] = []
    assert [song.name for song in fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, said.append)] == ["a"]
    assert said == [
        "skipped b: samples of its bass are too large; export it again",
        "songs skipped: 1 of 2",
    ]


def test_stems_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    stems = registers(3.0)
    write_song(tmp_path / "length/a", {**stems, "bass": stems["bass"][:, :44100]})
    with pytest.raises(InputError, match=r"bass\.wav: is 2\.00 s shorter than .*\.wav"):
        fill(tmp_path / "pool", [tmp_path / "length"], Data(), 44100, print)
    write_song(tmp_path / "rate/a", stems)
    soundfile.write(tmp_path / "rate/a/bass.wav", stems["bass"].T, 48000)
    with pytest.raises(InputError, match=r"has 48000 Hz, .* 44100 Hz|has 44100 Hz, .* 48000 Hz"):
        fill(tmp_path / "pool", [tmp_path / "rate"], Data(), 44100, print)
    with pytest.raises(UsageError, match="no such folder"):
        fill(tmp_path / "pool", [tmp_path / "none"], Data(), 44100, print)


def test_a_data_set_trains_with_its_train_part(tmp_path: Path) -> None:
    for name in ("train/a", "test/b"):
        write_song(tmp_path / "data" / name, registers(0.2))
    assert [s.name for s in fill(tmp_path / "pool", [tmp_path / "data"], Data(), 44100, print)] == ["train/a"]


def test_a_corpus_gives_its_songs_and_songs_made_of_it(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filling, "SECONDS", 5.0)
    said: list[str] = []
    found = fill(tmp_path, [corpus], Data(synthetic=2), 44100, said.append)
    assert [(song.name.partition("-")[0], song.recorded) for song in found] == [
        ("one", True), ("00000", False), ("00001", False),
    ]  # fmt: skip
    assert all(set(song.stems) == set(SOURCES) for song in found)
    assert said == ["made song 1 of 2", "made song 2 of 2"]
    again = fill(tmp_path, [corpus], Data(synthetic=2), 44100, said.append)
    assert [song.folder for song in again] == [song.folder for song in found]
    assert len(said) == 2
    mine = fill(tmp_path, [corpus], Data(licensed=("research",)), 44100, said.append)
    assert [song.name for song in mine] == ["secret"]


def test_a_corpus_may_have_many_songs_in_a_folder(tmp_path: Path) -> None:
    stems, rows = registers(0.2), ["path,stem,kind"]
    (tmp_path / "corpus/clips").mkdir(parents=True)
    for name in ("ann_1", "bob_1"):
        for half, stem in (("voice", "vocals"), ("accomp", "other")):
            soundfile.write(tmp_path / f"corpus/clips/{name}.{half}.wav", stems[stem].T, 16000)
            rows.append(f"clips/{name}.{half}.wav,{stem},stem")
    (tmp_path / "corpus/manifest.csv").write_text("\n".join(rows))
    found = fill(tmp_path / "pool", [tmp_path / "corpus"], Data(), 44100, print)
    assert [(song.name, set(song.stems)) for song in found] == [
        (name, {"vocals", "accompaniment"}) for name in ("ann_1", "bob_1")
    ]


def test_several_files_of_a_stem_are_summed_up_as_the_manifest_says(tmp_path: Path) -> None:
    stems, names = registers(0.2), {"lead": "vocals", "gtr": "other", "keys": "other", "kit": "drums"}
    (tmp_path / "corpus/song").mkdir(parents=True)
    for (name, _), x in zip(names.items(), stems.values(), strict=True):
        soundfile.write(tmp_path / f"corpus/song/{name}.wav", x.T, 44100)
    soundfile.write(tmp_path / "corpus/song/secret.wav", stems["bass"].T, 44100)  # which is not listed

    def filled(names: dict[str, str], **more: Any) -> Song:
        rows = [f"song/{name}.wav,{stem},stem" for name, stem in names.items()]
        (tmp_path / "corpus/manifest.csv").write_text("\n".join(["path,stem,kind", *rows]))
        [song] = fill(tmp_path / "pool", [tmp_path / "corpus"], Data(**more), 44100, print)
        return song

    song = filled(names)
    assert set(song.stems) == {"vocals", "other", "drums"}
    other = song.stems["other"].float().numpy() * song.levels["other"]
    assert other == pytest.approx(stems["drums"] + stems["bass"], abs=0.003)
    # Without a column that says so, all rows are of each licence, but not twice.
    assert filled(names, licensed=("permissive", "research")).folder == song.folder
    corrected = filled(names | {"lead": "drums", "kit": "vocals"})
    assert corrected.folder != song.folder
    assert corrected.stems["drums"].float().abs().sum() != song.stems["drums"].float().abs().sum()


def test_above_what_songs_are_worked_on_at_nothing_is_known(tmp_path: Path) -> None:
    write_song(tmp_path / "data/a", registers(0.2), rate=48_000)
    [song] = fill(tmp_path / "pool", [tmp_path / "data"], Data(), 48_000, print)
    assert (song.rate, song.limit) == (48_000, 22_050)


def test_what_made_songs_are_made_of_may_change(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filling, "SECONDS", 5.0)
    mine = tmp_path / "corpus"
    shutil.copytree(corpus, mine)

    def made() -> list[Path]:
        found = fill(tmp_path / "pool", [mine], Data(synthetic=1), 44100, lambda message: None)
        return [song.folder for song in found if not song.recorded]

    first = made()
    assert made() == first
    table = mine / "manifest.csv"
    table.write_text(table.read_text().replace("guitar,24,", "guitar,25,"))
    assert made() != first


@pytest.mark.parametrize(("rate", "limits"), [("16000", [8000, 8000 / 2 ** (1 / 6)]), ("", [22050, 22050])])
def test_a_manifest_tells_at_what_rate_was_recorded(tmp_path: Path, rate: str, limits: list[float]) -> None:
    rows = ["path,stem,kind,rate"]
    for stem, x in registers(0.2).items():  # at 44.1 kHz, as their files say
        (tmp_path / "corpus/a").mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / f"corpus/a/{stem}.wav", x.T, 44100)
        rows.append(f"a/{stem}.wav,{stem},stem,{rate}")
    (tmp_path / "corpus/manifest.csv").write_text("\n".join(rows))
    found = fill(tmp_path / "pool", [tmp_path / "corpus"], Data(copies=1), 44100, print)
    assert [song.limit for song in found] == pytest.approx(limits)
    (tmp_path / "corpus/manifest.csv").write_text("\n".join(rows).replace(",16000", ",12000"))
    again = fill(tmp_path / "pool", [tmp_path / "corpus"], Data(copies=1), 44100, print)
    assert (again == found) == (not rate)  # what is known to be less is not taken from the pool as it was


def test_songs_to_validate_with_are_chosen_by_name() -> None:
    songs = [Song(Path(f"{i}-{c}"), f"song {i}", True, 44100, 22050, {}, 1, c > 0) for i in range(40) for c in range(2)]
    made = [Song(Path(f"made {i}"), f"made {i}", False, 44100, 22050, {}, 1) for i in range(10)]
    learn, held = held_out(songs + made, 0.3)
    assert 4 <= len(held) <= 20
    assert all(song.recorded and not song.altered for song in held)
    assert {song.name for song in learn}.isdisjoint({song.name for song in held})
    assert len(learn) + 2 * len(held) == 90
    smaller = held_out([song for song in songs if song.name != held[0].name], 0.3)[1]
    assert {song.name for song in smaller} == {song.name for song in held} - {held[0].name}
    assert len({song.name for song in held_out(songs[:4], 1e-9)[1]}) == 1
    assert held_out(made, 0.1)[1]
