"""`separate evaluate`: its forms, what it writes and says, and what it refuses."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from separate.cli.scores import duration
from tests.conftest import Outcome
from tests.evaluation.songs import STEMS, data_set, spoilt, stems, write
from tests.test_docs import ROOT, code_blocks

Cli = Callable[..., Outcome]
NAMES = ("One", "Two", "Three")


@pytest.fixture
def songs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a data set in `true` and estimates of it in `made`, and the place to be."""
    monkeypatch.chdir(tmp_path)
    return data_set(tmp_path, NAMES, seconds=1.0)


def evaluate(cli: Cli, *args: object) -> Outcome:
    """Score the estimates, in the fastest way unless the arguments say another."""
    metric = () if "--metric" in args else ("--metric", "sdr")
    return cli("evaluate", "--references", "true", "--estimates", "made", "--out", "out", *metric, *args)


def test_estimates_are_scored(cli: Cli, songs: Path) -> None:
    done = evaluate(cli, "--metric", "v4", "--tracks", "1")
    assert done.code == 0, done.err
    assert re.fullmatch(r"One: SDR vocals \d+\.\d\d, .*accompaniment \d+\.\d\d \(1 of 1\)", done.err.strip())
    lines = [line.split() for line in done.out.splitlines()]
    assert lines[0] == ["vocals", "drums", "bass", "other", "accomp."]
    assert [line[:2] for line in lines if len(line) == 7] == [[name, "out"] for name in ("SDR", "SIR", "SAR", "ISR")]
    assert done.out.splitlines()[-1] == "out: 1 song"
    assert (songs / "out/test/One.json").is_file()
    summary = json.loads((songs / "out/summary.json").read_text())
    assert summary["tracks"] == ["One"]
    assert summary["command"].startswith("separate evaluate --references true")
    assert set(summary["versions"]) == {"separate", "torch", "python"}
    assert summary["made"]["metric"] == "v4"
    median = summary["scores"]["bass"]["SDR"]["median"]
    assert f"{median:.2f}" == lines[1][4]


@pytest.mark.parametrize(
    ("options", "system"),
    [(["--oracle", "irm"], "irm"), (["--oracle", "mwf"], "mwf")]
    + [(["--baseline", name], name) for name in ("mixture", "repet", "hpss")],
)
def test_ceilings_and_floors_are_scored(cli: Cli, songs: Path, options: list[str], system: str) -> None:
    done = cli("evaluate", *options, "--dataset", "true", "--metric", "sdr", "--tracks", "one", "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (songs / "results" / system / "test" / "One.json").is_file()


def test_a_model_is_scored(cli: Cli, songs: Path, tiny: Path) -> None:
    options = ["--dataset", "true", "--metric", "si-sdr", "--tracks", "2", "--wiener", "0", "--overlap", "0.2"]
    done = cli("evaluate", "--model", tiny, *options, "--keep-stems", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary["tracks"] == ["One", "Three"]
    assert (summary["made"]["wiener"], summary["made"]["overlap"]) == (0, 0.2)
    assert {path.name for path in (songs / "results/tiny/stems/One").iterdir()} == {f"{stem}.wav" for stem in STEMS}


def test_a_second_run_goes_on_where_the_first_one_stopped(cli: Cli, songs: Path) -> None:
    first = evaluate(cli, "--tracks", "One")
    assert "One: SDR" in first.err
    second = evaluate(cli)
    assert "One: SDR" not in second.err
    assert "(1 of 2, " in second.err
    assert second.err.splitlines()[-1] == "1 of 3 songs were scored in an earlier run, and are kept"
    third = evaluate(cli, "--jobs", "2")
    assert third.err == "3 of 3 songs were scored in an earlier run, and are kept\n"
    assert third.out == second.out
    other = evaluate(cli, "--end", "0.5")
    assert (other.code, len(other.err.splitlines())) == (1, 1)
    assert "was made with another end; choose another --out, or --force" in other.err
    assert evaluate(cli, "--end", "0.5", "--force").code == 0


def test_a_song_that_fails_is_named_and_the_rest_goes_on(cli: Cli, songs: Path) -> None:
    (songs / "true/One/bass.wav").write_bytes(b"no sound")
    write(songs / "made/Two", {"vocals": stems(1, seconds=2.5, channels=1)["vocals"]})
    done = evaluate(cli, "--quiet")
    assert done.code == 1
    assert sorted(line.partition(":")[0] for line in done.err.splitlines()) == ["separate", "separate"]
    assert "true/One/bass.wav" in done.err
    assert "made/Two" in done.err
    assert "they cannot be of one song" in done.err
    summary = json.loads((songs / "out/summary.json").read_text())
    assert (summary["tracks"], set(summary["failed"])) == (["Three"], {"One", "Two"})


def test_when_all_songs_fail_there_is_no_summary(cli: Cli, songs: Path) -> None:
    write(songs / "made/One", stems(0, seconds=1.0, channels=1), rate=16000)
    done = evaluate(cli, "--tracks", "One")
    assert (done.code, done.out) == (1, "")
    assert done.err == "separate: One: the references have 8000 Hz, the estimates 16000; they must agree\n"
    assert not (songs / "out").exists()


def test_what_has_no_value_is_counted(cli: Cli, songs: Path) -> None:
    silent = stems(0, seconds=1.0, channels=1)
    silent["bass"][:] = 0
    write(songs / "true/One", silent)
    (songs / "true/Two/bass.wav").unlink()
    done = evaluate(cli)
    assert done.code == 0
    assert "One: bass is silent in the references: it has no value" in done.err
    assert "Two: no reference of bass: it is not scored" in done.err
    assert done.out.splitlines()[-1] == "out: 3 songs; without a value: bass 2"


def test_stems_are_merged_before_they_are_scored(cli: Cli, songs: Path) -> None:
    assert evaluate(cli, "--merge", "bass+other=other", "--merge", "drums+other=rest").code == 0
    assert list(json.loads((songs / "out/summary.json").read_text())["scores"]) == ["vocals", "accompaniment", "rest"]


def test_tracks_are_chosen(cli: Cli, songs: Path) -> None:
    for name in ("A - First", "B - Second", "B - Third [live]"):
        write(songs / "true/test" / name, stems(0, seconds=0.5))
        write(songs / "made/test" / name, spoilt(stems(0, seconds=0.5)))

    def chosen(*options: str) -> list[str]:
        done = evaluate(cli, "--force", "--json", *options)
        assert done.code == 0, done.err
        return list(json.loads(done.out)["tracks"])

    assert chosen("--subset", "test") == ["A - First", "B - Second", "B - Third [live]"]
    assert chosen("--tracks", "b - *") == ["B - Second", "B - Third [live]"]
    assert chosen("--tracks", "B - Third [live]", "--tracks", "1") == ["A - First", "B - Third [live]"]


def test_results_are_put_side_by_side(cli: Cli, songs: Path) -> None:
    assert evaluate(cli).code == 0
    run = ["evaluate", "--baseline", "mixture", "--dataset", "true", "--metric", "sdr"]
    beside = cli(*run, "--compare", "out", "--html", "both.html")
    assert beside.code == 0, beside.err
    assert [line.split()[:-5][-1] for line in beside.out.splitlines()[1:3]] == ["mixture", "out"]
    again = cli("evaluate", "--compare", "results/mixture", "out", "--html", "again.html")
    assert (again.code, again.err) == (0, "")
    assert again.out == beside.out
    assert (songs / "again.html").read_text() == (songs / "both.html").read_text()
    lines = cli("evaluate", "--compare", "out", "--compare", "results/mixture", "--json").out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["out", "mixture"]


def test_results_of_another_form_are_named_in_a_line(cli: Cli, songs: Path) -> None:
    assert evaluate(cli, "--tracks", "1").code == 0
    for text in (
        '{"tracks": 5}',
        '{"tracks": ["One"], "failed": [1]}',
        '{"tracks": ["One"], "made": [1]}',
        "[" * 10**5,
    ):
        (songs / "out/summary.json").write_text(text)
        done = cli("evaluate", "--compare", "out", "--html", "page.html")
        assert (done.code, done.out) == (1, "")
        [line] = done.err.splitlines()
        assert line.startswith("separate: out/summary.json: ")
    assert not (songs / "page.html").exists()


def test_a_mixture_alone_fails_and_the_rest_goes_on(cli: Cli, songs: Path) -> None:
    for folder in ("true/One", "made/Two"):
        for path in (songs / folder).iterdir():
            path.unlink()
        write(songs / folder, {"mixture": stems(0, seconds=1.0, channels=1)["vocals"]})
    for said, done in (
        ("Two: has no stems; a track is a folder with a file a stem", evaluate(cli, "--tracks", "T*", "--quiet")),
        ("One: has no stems to make masks of", cli("evaluate", "--oracle", "mwf", "--dataset", "true", "--quiet")),
    ):
        assert done.code == 1
        [line] = done.err.splitlines()
        assert said in line


def test_folders_of_one_name_are_told_apart(cli: Cli, songs: Path) -> None:
    assert evaluate(cli, "--tracks", "1").code == 0
    (songs / "old").mkdir()
    (songs / "out").rename(songs / "old/out")
    assert evaluate(cli, "--tracks", "1").code == 0
    lines = cli("evaluate", "--compare", "out", "old/out", "--json").out.splitlines()
    assert [json.loads(line)["name"] for line in lines] == ["out", "old/out"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "nothing to score: choose one of --estimates, --model, --oracle and --baseline"),
        ("--dataset true", "--dataset true: choose what is scored: --estimates, --model, --oracle or --baseline"),
        ("--oracle mwf", "--oracle needs the true stems: --dataset DIR"),
        ("--estimates made", "--estimates needs the true stems: --dataset DIR"),
        ("--oracle mwf --baseline repet --dataset true", "--oracle and --baseline: choose one; results are put"),
        ("--estimates made --references true --keep-stems", "--keep-stems: the stems of --estimates are there already"),
        ("--oracle mwf --dataset true --html page.txt", "--html page.txt: a report's name ends in .html"),
        ("--oracle mwf --dataset true --end 1 --start 2", "--end 1 must come after --start 2"),
        ("--oracle mwf --dataset true --merge bass", "--merge 'bass': write it as bass+other=other"),
        (
            "--oracle mwf --dataset true --merge a+b=c --merge d+e=c",
            "--merge 'd+e=c': makes c, as another --merge does",
        ),
        ("--oracle mwf --dataset true --tracks Four", "--tracks 'Four': none of 3 tracks is called so; there are One,"),
        ("--oracle mwf --dataset true --tracks 0", "--tracks '0': none of 3 tracks is called so"),
        ("--oracle mwf --dataset true --subset test", "no subset 'test'"),
        ("--oracle mwf --dataset true --jobs 0", "Invalid value for '--jobs'"),
        ("--oracle best --dataset true", "Invalid value for '--oracle'"),
        ("out", "'out': songs come with --dataset, results of earlier runs with --compare"),
    ],
)
def test_usage_that_makes_no_sense(cli: Cli, songs: Path, arguments: str, message: str) -> None:
    done = cli("evaluate", *shlex.split(arguments))
    assert done.code == 2
    assert done.err.startswith("separate: ")
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not list(songs.rglob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("--oracle mwf --dataset nowhere", 1, "nowhere: no such folder"),
        ("--oracle mwf --dataset empty", 1, "empty: no sound files in this folder"),
        ("--estimates empty --dataset true", 1, "empty: no tracks"),
        ("--compare empty", 1, "empty: no results in this folder"),
        ("--model d2-gro --dataset true", 3, "did you mean d2-gru"),
    ],
)
def test_input_that_is_not_there(cli: Cli, songs: Path, arguments: str, code: int, message: str) -> None:
    (songs / "empty").mkdir()
    done = cli("evaluate", *shlex.split(arguments))
    assert done.code == code
    assert message in done.err
    assert len(done.err.splitlines()) == 1


def test_an_interrupt_keeps_what_was_scored(songs: Path) -> None:
    for number in range(40):
        write(songs / "true" / f"More {number}", stems(number, seconds=4.0))
    command = [sys.executable, "-m", "separate", "evaluate", "--oracle", "mwf", "--dataset", "true", "--jobs", "2"]
    command += ["--metric", "sdr"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    results = songs / "results/mwf/test"
    deadline = time.monotonic() + 120
    while not list(results.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "separate: interrupted; what was not complete has been removed"
    assert "Traceback" not in said
    there = list(results.iterdir())
    assert 0 < len(there) < 43
    for path in there:
        assert json.loads(path.read_text())["targets"]


@pytest.mark.parametrize(("seconds", "text"), [(3.4, "3 s"), (89, "89 s"), (100, "2 min"), (9000, "2.5 h")])
def test_time_left(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_examples_of_the_page_run(cli: Cli, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of docs/evaluation.md, in their order, on small data sets of the names that stand there."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("A - First", "B - Second", "C - Third")):
        true = stems(number, seconds=0.5)
        write(tmp_path / "musdb18hq/test" / name, true)
        write(tmp_path / "clips" / name, true)
        write(tmp_path / "estimates" / name, spoilt(true))
    lines = "\n".join(code_blocks(ROOT / "docs" / "evaluation.md", "sh")).replace("\\\n", "").splitlines()
    commands = [line for line in lines if line.startswith("separate evaluate")]
    assert len(commands) > 8
    for command in commands:
        words = [str(tiny) if word == "d2-gru" else word for word in shlex.split(command.partition(" #")[0])[1:]]
        timed = [] if "--metric" in words or "--compare" in words[1:2] else ["--metric", "sdr"]
        done = cli(*words, *timed)
        assert done.code == 0, (command, done.err)
    assert list(tmp_path.glob("*.html"))
