"""Songs one after the other, in this process."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from separate.audio.reader import AudioReader
from separate.batch.job import Job, Output, Result
from separate.batch.local import attempt
from separate.separator import Separator
from tests.batch.songs import write_song


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_opened_once(tiny: Path, tmp_path: Path) -> None:
    """Whoever opens it again, to read its tags, waits for a sender who never comes."""
    song = write_song(tmp_path / "song.wav").read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    separator = Separator(tiny)
    job = Job(str(pipe), {stem: tmp_path / f"{stem}.wav" for stem in separator.sources})
    results: list[Result] = []

    def work() -> None:
        results.append(attempt(job, separator, Output(), lambda message: None, lambda done, total: None))

    worker = Thread(target=work, daemon=True)
    worker.start()
    pipe.write_bytes(song)
    worker.join(60)
    assert [(result.status, result.input) for result in results] == [("done", None)]
    with AudioReader(tmp_path / "vocals.wav") as stem:
        assert stem.frames == 800
