"""Runs that are ended at random moments, which no operation on a file marks: in the midst of a model or a codec."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest
import soundfile

from tests.batch.songs import files
from tests.conftest import music
from tests.faults.conftest import TRIALS, Bench

MOMENTS = 6


@pytest.mark.parametrize(("name", "code"), [("SIGKILL", -9), ("SIGTERM", 130), ("SIGINT", 130)])
def test_any_moment(bench: Bench, tmp_path: Path, name: str, code: int) -> None:
    song = tmp_path / "song.wav"
    soundfile.write(song, music(2.0, 16000).T, 16000)
    words = [song, "-m", bench.tiny, "-q", "--stems", "vocals,bass", "--format", "flac", "-o"]
    begun = time.monotonic()
    assert bench.nursery.run(*words, tmp_path / "calm").code == 0
    took, calm = time.monotonic() - begun, files(tmp_path / "calm")
    moments, out, codes = random.Random(name), tmp_path / "out", []
    for _ in range(MOMENTS):
        run = bench.nursery.run(*words, out, signal=name, after=moments.uniform(0.2, 1) * took)
        TRIALS[f"{name} at a random moment"] += 1
        codes.append(run.code)
        there = files(out) if out.exists() else {}
        final = {file: content for file, content in there.items() if not file.endswith(".part")}
        assert final.items() <= calm.items(), run
        assert name == "SIGKILL" or (final == there and len(final) in (0, 2)), (sorted(there), run)
        assert run.code in (0, code), run
        assert run.code or final == calm, run
        assert not any("Traceback" in line for line in run.said), run
        shutil.rmtree(out, ignore_errors=True)
    assert code in codes
