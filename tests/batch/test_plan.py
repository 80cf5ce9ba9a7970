"""The plan: songs, names and collisions."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from separate.batch.job import Job
from separate.batch.plan import check_template, model_label, plan
from separate.errors import InputError, OutputError, UsageError

DEFAULT = "{model}/{track}/{stem}.{ext}"


def planned(
    inputs: list[Path | str], out: Path, template: str = DEFAULT, stems: tuple[str, ...] = ("vocals",)
) -> list[Job]:
    return plan([str(name) for name in inputs], out, template, model="d2-gru", stems=stems, ext="wav")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_searched_and_its_tree_kept(tmp_path: Path) -> None:
    music = tmp_path / "music"
    touch(music, "b.mp3", "a.wav", "sub/deep/c.FLAC", "sub/notes.txt", ".hidden.wav", ".git/d.wav")
    jobs = planned([music], tmp_path / "out", stems=("vocals", "other"))
    assert [Path(job.song).relative_to(music).as_posix() for job in jobs] == ["a.wav", "b.mp3", "sub/deep/c.FLAC"]
    assert jobs[2].outputs["other"] == tmp_path / "out/d2-gru/sub/deep/c/other.wav"
    assert not any(job.error for job in jobs)


def test_stems_of_an_earlier_run_are_no_songs(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "separated/d2-gru/a/vocals.wav")
    assert len(planned([tmp_path], tmp_path / "separated")) == 1


def test_a_folder_without_songs(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt", "x/a.wav")
    jobs = planned([tmp_path / "x", tmp_path / "none.wav", tmp_path], tmp_path / "out")
    assert [job.error for job in jobs[:2]] == [None, None]
    (job,) = planned([touched_empty(tmp_path)], tmp_path / "out")
    assert isinstance(job.error, InputError)
    assert "no audio files in this folder" in str(job.error)


def touched_empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_songs_whose_outputs_collide(tmp_path: Path) -> None:
    touch(tmp_path, "a.b.wav", "a.b.flac", "other/a.b.wav", "a.c.wav")
    names = [tmp_path / name for name in ("a.b.wav", "a.b.flac", "other/a.b.wav", "a.c.wav")]
    jobs = planned(list(names), tmp_path / "out")
    assert [job.error is None for job in jobs] == [True, False, False, True]
    assert isinstance(jobs[1].error, OutputError)
    assert f"is that of {names[0]} too; add {{suffix}} or more to --name" in str(jobs[1].error)
    jobs = planned(list(names[:2]), tmp_path / "out", "{track}.{suffix}/{stem}.{ext}")
    assert not any(job.error for job in jobs)


def test_the_advice_for_songs_whose_outputs_collide_works(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav")
    names = [tmp_path / "x/a.wav", tmp_path / "y/a.wav"]
    for template in (DEFAULT, "{track}.{suffix}/{stem}.{ext}"):
        _, job = planned(list(names), tmp_path / "out", template)
        assert str(job.error).endswith(
            f"is that of {names[0]} too; separate the folder that both are in, or give one of them another --out"
        )
    assert not any(job.error for job in planned([tmp_path], tmp_path / "out"))
    _, job = planned([tmp_path], tmp_path / "out", "{stem}.{ext}")
    assert str(job.error).endswith("too; add {track} to --name")


def test_a_song_of_two_names_is_done_once(tmp_path: Path) -> None:
    touch(tmp_path, "album/a.wav", "album/sub/b.wav")
    (tmp_path / "link").symlink_to("album")
    (tmp_path / "b.wav").symlink_to("album/sub/b.wav")
    jobs = planned([tmp_path / name for name in ("album", "link", "b.wav")], tmp_path / "out")
    assert [job.song for job in jobs] == [str(tmp_path / "album/a.wav"), str(tmp_path / "album/sub/b.wav")]
    assert not any(job.error for job in jobs)


def test_a_song_that_would_be_overwritten(tmp_path: Path) -> None:
    touch(tmp_path, "song.wav", "second.wav")
    jobs = planned([tmp_path / "song.wav"], tmp_path, "{track}.{ext}")
    assert "would overwrite itself" in str(jobs[0].error)
    (tmp_path / "link").symlink_to(tmp_path)
    jobs = planned([tmp_path / "song.wav", tmp_path / "second.wav"], tmp_path / "link", "second.{ext}")
    assert f"would overwrite {tmp_path / 'second.wav'}" in str(jobs[0].error)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{song}/{stem}.{ext}", "use only {model}, {track}, {stem}, {ext}, {suffix}"),
        ("{stem", "use only"),
        ("{}", "use only"),
        ("{0}", "use only"),
        ("{stem.x}", "use only"),
        ("{track}.{ext}", r"needs {stem}, or vocals and drums would be one file"),
        ("{stem:.0}{track}.{ext}", "would be one file"),
        ("/tmp/{stem}.{ext}", "must stay below the output folder"),
        ("../{stem}.{ext}", "must stay below the output folder"),
    ],
)
def test_templates_that_are_wrong(template: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_template(template, ["vocals", "drums"])


@given(st.text())
def test_any_template_is_taken_or_refused(template: str) -> None:
    with suppress(UsageError):
        check_template(template, ["vocals"])
        template.format(model="m", track="t", stem="s", ext="e", suffix="x")


def test_labels_of_models() -> None:
    assert model_label("d2-gru") == "d2-gru"
    assert model_label("some/where/my model.v2.safetensors") == "my model.v2"
    assert model_label("hf:user/repo/net.safetensors@main") == "net"
    assert model_label("./me@home/mine.safetensors") == "mine"
    assert model_label("@x/mine@2.safetensors") == "mine@2"


def test_standard_input_is_a_song(tmp_path: Path) -> None:
    (job,) = planned(["-"], tmp_path)
    assert job.song == "-"
    assert job.outputs["vocals"] == tmp_path / "d2-gru/stdin/vocals.wav"
    assert [each.song for each in planned(["-", "./-", "./-"], tmp_path)] == ["-", "./-"]
