"""`separate publish`: shown first, sent when it is said, and used by its new name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.checkpoints.uploads import taking_hub
from tests.conftest import Outcome

Cli = Callable[..., Outcome]

# The hub's client says it of itself when it sends a file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_without_yes_it_only_shows_what_would_be_sent(cli: Cli, tiny: Path) -> None:
    shown = cli("publish", tiny, "me/mine")
    assert (shown.code, shown.err) == (0, "")
    assert "# mine\n" in shown.out
    assert f"hf:me/mine/model.safetensors: {tiny.stat().st_size:,} bytes\n" in shown.out
    assert shown.out.endswith("Nothing has been sent. This and the card above would be, with --yes.\n")


def test_what_is_sent_separates(
    cli: Cli, tiny: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with taking_hub(tmp_path / "home", monkeypatch) as hub:
        sent = cli("publish", tiny, "me/mine", "--yes")
        assert sent.code == 0, sent.err
        commit = hub.repositories["me/mine"].branches["main"]
        assert sent.out == f"published: separate song.mp3 --model hf:me/mine@{commit}\n"
        done = cli(song, "--model", f"hf:me/mine@{commit}", "--out", "out", "--quiet")
    assert done.code == 0, done.err
    (vocals,) = (tmp_path / "out").rglob("vocals.wav")
    assert soundfile.info(vocals).frames == soundfile.info(song).frames


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (["there.safetensors", "me"], 2, "me: a repository on the hub is written user/name"),
        (["there.safetensors"], 2, "Missing argument 'USER/REPO'"),
        (["missing.safetensors", "me/mine"], 3, "missing.safetensors: no such checkpoint file"),
        (["d3-gru", "me/mine"], 3, "unknown model 'd3-gru'"),
        (["notes.safetensors", "me/mine"], 3, "notes.safetensors: not a safetensors file"),
    ],
)
def test_mistakes_are_said_in_a_line(
    cli: Cli,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    complaint: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.safetensors").write_bytes(tiny.read_bytes())
    Path("notes.safetensors").write_text("my notes on it")
    outcome = cli("publish", *arguments)
    assert outcome.code == code
    assert outcome.err.startswith("separate: ")
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 1
