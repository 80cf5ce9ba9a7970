"""Model cards: what they say is what checkpoints and registries say, and is what the hub can read."""

from __future__ import annotations

import re
import runpy
from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from separate.checkpoints.cards import HUB_LICENCES, hub_card, row_card, row_cards, terms
from separate.checkpoints.registry import BUNDLED, Checkpoint, read_registry
from separate.checkpoints.weights import read_header

ROOT = Path(__file__).parents[2]
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"))
HEADER = replace(
    read_header(BUNDLED / "d2-gru.safetensors"),
    config={"width": 16},
    sources=("vocals", "drums"),
    training={
        "data": "songs\nof mine",
        "minutes": 3,
        "songs": ["a", "b"],
        "sdr": {"what": "dB of it", "vocals": 2.5, "drums": -1},
        "machine": {"cores": 2},
    },
)
ROW = Checkpoint(
    name="one",
    architecture="d2-gru",
    source="hf:me/mine/model.safetensors",
    stems=("vocals", "drums"),
    sample_rate=44100,
    licence="CC-BY-NC-SA-4.0",
    summary="For trying.",
    megabytes=12.5,
    sdr={"vocals": 6.25, "drums": 5.0},
    measured="by me",
)


def front(card: str) -> dict[str, object]:
    _, matter, _ = card.split("---\n", 2)
    return dict(yaml.safe_load(matter))


def test_a_card_says_how_to_use_it_what_it_may_be_used_for_and_how_it_was_made() -> None:
    card = hub_card(HEADER, "me/mine", 1_500_000, 3_000_000)
    for said in (
        "\n# mine\n",
        "Separates a song into vocals, drums. Architecture `d2-gru`: 1.5 million parameters, 3.0 MB, 44.1 kHz.",
        "separate song.mp3 --model hf:me/mine\n",
        'Separator("hf:me/mine")',
        "## Licence\n\nMIT: may be used for anything, commerce included.",
        "dB of it:\n\n| vocals | drums |\n| --- | --- |\n| 2.5 | -1 |",
        "- data: songs of mine\n- minutes: 3\n- songs: a, b\n- machine:\n  - cores: 2\n",
        '```json\n{\n  "width": 16\n}\n```',
    ):
        assert said in card


def test_what_the_hub_reads_of_a_card_is_yaml_whatever_the_header_holds() -> None:
    assert front(hub_card(HEADER, "me/mine", 1, 1)) == {
        "license": "mit",
        "library_name": "separate",
        "pipeline_tag": "audio-to-audio",
        "tags": ["music", "music-source-separation", "d2-gru", "vocals", "drums"],
    }
    odd = replace(HEADER, licence='ours: "\n---\nx', sources=("no: yes", "[", "---"))
    matter = front(hub_card(odd, "me/mine", 1, 1))
    assert (matter["license"], matter["license_name"]) == ("other", 'ours: "\n---\nx')
    assert matter["tags"] == ["music", "music-source-separation", "d2-gru", "no: yes", "[", "---"]


def test_without_figures_and_facts_a_card_says_so() -> None:
    card = hub_card(replace(HEADER, training={}), "me/mine", 1, 1)
    assert "## Figures\n\nNone are known." in card
    assert "## How it was made\n\nNobody wrote it down." in card


@pytest.mark.parametrize(
    ("licence", "says"),
    [
        ("MIT", "may be used for anything"),
        ("CC-BY-NC-4.0", "not for commercial use"),
        ("LicenseRef-research-only", "not for commercial use"),
        ("unknown", "nobody says"),
        ("GPL-3.0", "read it"),
    ],
)
def test_licences_in_words(licence: str, says: str) -> None:
    assert says in terms(licence)
    assert (licence.lower() in HUB_LICENCES) == (licence in ("MIT", "CC-BY-NC-4.0", "GPL-3.0"))


def test_a_row_of_the_registry_has_a_card() -> None:
    assert row_card(ROW).splitlines() == [
        "### Model one",
        "",
        "For trying.",
        "",
        "| | |",
        "| --- | --- |",
        "| stems | vocals, drums |",
        "| sample rate | 44.1 kHz |",
        "| architecture | `d2-gru` |",
        "| licence | CC-BY-NC-SA-4.0: for research only, not for commercial use |",
        "| where | `hf:me/mine/model.safetensors`, 12.5 MB |",
        "| SDR, dB | vocals 6.2, drums 5.0 (by me) |",
    ]
    bare = replace(ROW, source="bundled:x.safetensors", megabytes=None, sdr={})
    assert "| where | comes with the package, of unknown size |" in row_card(bare)
    assert "SDR" not in row_card(bare)


def test_the_document_has_a_card_of_every_row_of_today() -> None:
    rows, text = read_registry(ROOT / "checkpoints.toml"), (ROOT / "docs" / "models.md").read_text("utf-8")
    assert re.findall(r"^### Model (\S+)$", text, re.MULTILINE) == list(rows)
    assert row_cards(rows) in text
    assert GENERATE["with_cards"](text) == text, "run: python docs/generate.py"


def test_who_does_not_know_which_model_to_take_is_sent_to_one_that_there_is() -> None:
    rows, text = read_registry(ROOT / "checkpoints.toml"), (ROOT / "docs" / "models.md").read_text("utf-8")
    section = text.partition("## Which one should I take?")[2].partition("\n## ")[0]
    taken = [line.split("|")[2] for line in section.splitlines() if line.startswith("| ")][2:]
    names = [name for cell in taken for name in re.findall(r"`([^`]+)`", cell) if not name.startswith("--")]
    assert len(names) >= 5
    assert set(names) <= set(rows)
