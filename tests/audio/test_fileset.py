from __future__ import annotations

import os
from pathlib import Path

import pytest

from separate.audio.fileset import FileSet, shown
from separate.errors import OutputError, OutputExists, UsageError


def fill(files: FileSet) -> None:
    for name, path in files.temporary.items():
        path.write_text(name)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_appear_together_in_folders_that_are_made(tmp_path: Path) -> None:
    files = FileSet({"vocals": tmp_path / "a" / "b" / "vocals.wav", "drums": tmp_path / "a" / "c" / "drums.wav"})
    fill(files)
    assert not list(tmp_path.rglob("*.wav"))
    files.commit()
    assert tree(tmp_path) == ["a", "a/b", "a/b/vocals.wav", "a/c", "a/c/drums.wav"]
    assert (tmp_path / "a" / "b" / "vocals.wav").read_text() == "vocals"
    assert (tmp_path / "a" / "b" / "vocals.wav").stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_removing_leaves_the_folders_as_they_were(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    files = FileSet({"one": tmp_path / "there" / "new" / "x", "two": tmp_path / "new" / "y"})
    fill(files)
    files.remove()
    assert tree(tmp_path) == ["there"]


def test_a_folder_that_somebody_else_uses_now_stays(tmp_path: Path) -> None:
    files = FileSet({"one": tmp_path / "new" / "x"})
    (tmp_path / "new" / "other").touch()
    files.remove()
    assert tree(tmp_path) == ["new", "new/other"]


@pytest.mark.parametrize("dangling", [False, True])
def test_what_is_there_is_an_error_that_names_both_ways_out(dangling: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.symlink_to(tmp_path / "nowhere") if dangling else path.touch()
    with pytest.raises(OutputExists) as raised:
        FileSet({"one": tmp_path / "new" / "y.wav", "two": path})
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "--force" in message
    assert "--skip-existing" in message
    assert tree(tmp_path) == ["x.wav"]


def test_force_replaces(tmp_path: Path) -> None:
    path = tmp_path / "x.wav"
    path.write_text("old")
    files = FileSet({"one": path}, force=True)
    fill(files)
    assert path.read_text() == "old"
    files.commit()
    assert path.read_text() == "one"
    assert tree(tmp_path) == ["x.wav"]


def test_a_file_that_appears_meanwhile_is_kept_and_the_others_are_taken_back(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.wav" for name in ("one", "two", "three", "four")}
    files = FileSet(paths)
    fill(files)
    paths["three"].write_text("somebody else's")
    with pytest.raises(OutputExists, match=r"three\.wav"):
        files.commit()
    assert tree(tmp_path) == ["three.wav"]
    assert paths["three"].read_text() == "somebody else's"


def test_a_commit_that_fails_after_replacing_says_so(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.wav" for name in ("one", "two", "three")}
    paths["two"].write_text("old")
    files = FileSet(paths, force=True)
    fill(files)
    paths["three"].mkdir()
    with pytest.raises(OutputError, match=r"three\.wav: cannot be written: Is a directory.*replaced.*two\.wav\)$"):
        files.commit()
    assert tree(tmp_path) == ["three.wav", "two.wav"]  # what was new is gone, what was replaced stays replaced


def test_two_stems_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"song\.wav: would be both vocals and drums; --name needs \{stem\}"):
        FileSet({"vocals": tmp_path / "song.wav", "drums": tmp_path / "song.wav"}, force=True)


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match=r"x\.wav: cannot be written: Not a directory; a part of this path is a file"):
        FileSet({"one": tmp_path / "out" / "model" / "x.wav"})


def test_a_name_that_is_too_long_is_found_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long; choose shorter names with --name"):
        FileSet({"one": tmp_path / ("x" * 300)})
    assert tree(tmp_path) == []


def test_the_longest_name_works(tmp_path: Path) -> None:
    name = "ü" * 125 + ".wav"
    files = FileSet({"one": tmp_path / name})
    fill(files)
    files.commit()
    assert tree(tmp_path) == [name]


def test_a_folder_without_rights(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:  # who may write everywhere
            os.seteuid(65534)
        with pytest.raises(OutputError, match="Permission denied; choose a folder that you may write to with --out"):
            FileSet({"one": tmp_path / "new" / "x.wav"})
    finally:
        os.seteuid(user)
        tmp_path.chmod(0o755)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a b.wav", "a b.wav"), ("ä 👩‍🎤.wav", "ä 👩‍🎤.wav"), ("a\nb\x1b", "a\\nb\\x1b"), ("\udcff", "\\udcff")],
)
def test_a_name_is_shown_on_one_line(name: str, expected: str) -> None:
    assert shown(Path(name)) == expected
