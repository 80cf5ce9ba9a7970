"""What all faults are measured against: songs, and what a run makes of them that nobody disturbs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.batch.songs import files, write_song
from tests.faults.nursery import Nursery, Run, nursery_in

SONGS, STEMS = 2, 2
TRIALS = Counter[str]()  # of each fault
COMMAND = ("-q", "--wiener", 0, "--stems", "vocals,bass")


@dataclass
class Bench:
    """A folder with songs, the files that come of them, and runs that are held against these."""

    nursery: Nursery
    folder: Path
    tiny: Path
    calm: dict[str, bytes]  # file -> what a run makes that nobody disturbs

    def words(self, out: Path, *more: object, songs: int = 1) -> list[object]:
        """Write the command that separates so many of the songs into `out`."""
        inputs = [self.folder / "songs" / f"{number}.wav" for number in range(songs)]
        return [*inputs, "-m", self.tiny, *COMMAND, "-o", out, *more]

    def check(
        self,
        out: Path,
        run: Run,
        *,
        songs: int = 1,
        parts: bool = False,
        halves: bool = False,
        calm: dict[str, bytes] | None = None,
    ) -> None:
        """Check what holds whatever happened: no half-written file, all of a song's or none, and nobody is fooled.

        Args:
            out: the output folder.
            run: what happened.
            songs: how many were asked for.
            parts: whether files that are not complete may be there, under their temporary names.
            calm: the files of a run that nobody disturbed, if they are others.
            halves: whether some files of a song may be there, and others not.
        """
        there = files(out) if out.exists() else {}
        calm = self.calm if calm is None else calm
        final = {name: content for name, content in there.items() if not name.endswith(".part")}
        assert final.items() <= calm.items(), f"not what they should be: {sorted(final)}; {run}"
        assert parts or final == there, f"left behind: {sorted(there)}; {run}"
        assert run.code != 0 or len(final) == STEMS * songs, (
            f"exit code 0 with something missing: {sorted(final)}; {run}"
        )
        for number in range(songs):
            count = sum(f"/{number}/" in name for name in final)
            assert halves or count in (0, STEMS), f"half a song: {sorted(final)}; {run}"
        assert all(line.startswith("separate: ") for line in run.said if line), run
        assert not any("this is a mistake" in line for line in run.said), run

    def check_resumed(self, out: Path, *, songs: int = 1) -> None:
        """Check that --resume makes up for whatever happened, and tidies up."""
        run = self.nursery.run(*self.words(out, "--resume", songs=songs))
        assert (run.code, run.said) == (0, []), run
        self.check(out, run, songs=songs)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often each fault happened."""
    if TRIALS:
        terminalreporter.section("faults")
        for fault, count in TRIALS.items():
            terminalreporter.write_line(f"{count:5} x {fault}")


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Iterator[Bench]:
    """Two songs of a tenth of a second, and two stems of each."""
    folder = tmp_path_factory.mktemp("faults")
    for number in range(SONGS):
        write_song(folder / "songs" / f"{number}.wav", seed=number)
    calm = [folder / "songs", "-m", tiny, *COMMAND, "-o", folder / "calm"]
    with nursery_in(folder / "nursery", *calm) as nursery:
        bench = Bench(nursery, folder, tiny, files(folder / "calm"))
        assert len(bench.calm) == STEMS * SONGS
        yield bench
