"""Checkpoints that are published, and found again, by the real client of the hub."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from separate.checkpoints.publish import Parcel, pack, send
from separate.checkpoints.resolve import resolve
from separate.checkpoints.weights import load, save
from separate.errors import CheckpointError, UsageError
from separate.models import build
from tests.checkpoints.hub import Hub, point_to
from tests.checkpoints.uploads import taking_hub
from tests.conftest import TINY

# The hub's client says it of itself when it sends a file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with taking_hub(tmp_path / "home", monkeypatch) as running:
        yield running


@pytest.fixture
def parcel(tiny: Path) -> Parcel:
    return pack(tiny, "me/mine")


def test_what_is_published_is_found(hub: Hub, parcel: Parcel, tiny: Path) -> None:
    commit = send(parcel)
    found = resolve("hf:me/mine", quiet=True)
    assert found.read_bytes() == tiny.read_bytes()
    assert load(found).sources == ("vocals", "drums", "bass", "other")
    assert resolve(f"hf:me/mine/model.safetensors@{commit}", quiet=True).read_bytes() == tiny.read_bytes()
    files = hub.repositories["me/mine"].commits[commit]
    assert sorted(files) == ["README.md", "model.safetensors"]
    assert files["README.md"].decode() == parcel.card
    assert not hub.repositories["me/mine"].private


def test_a_newer_one_takes_its_place_and_the_older_one_keeps_its_revision(
    hub: Hub, parcel: Parcel, tiny: Path, tmp_path: Path
) -> None:
    older = send(parcel)
    torch.manual_seed(1)
    save(tmp_path / "b.safetensors", build("d2-gru", TINY), architecture="d2-gru", licence="MIT", training={})
    newer = send(pack(tmp_path / "b.safetensors", "me/mine"))
    assert resolve("hf:me/mine", quiet=True).read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert resolve(f"hf:me/mine@{older}", quiet=True).read_bytes() == tiny.read_bytes()
    assert older != newer


def test_a_repository_that_only_you_see(hub: Hub, parcel: Parcel, monkeypatch: pytest.MonkeyPatch) -> None:
    send(parcel, private=True)
    assert hub.repositories["me/mine"].private
    assert resolve("hf:me/mine", quiet=True).is_file()


def test_the_same_again_makes_no_second_transfer(hub: Hub, parcel: Parcel) -> None:
    send(parcel)
    send(parcel)
    assert [path for method, path, _ in hub.asked if method == "PUT"] == [
        path for _, path, _ in hub.asked if path.startswith("/upload/")
    ]
    assert len([path for _, path, _ in hub.asked if path.startswith("/upload/")]) == 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_busy_hub_is_asked_again(
    hub: Hub, parcel: Parcel, method: str, capsys: pytest.CaptureFixture[str], tiny: Path
) -> None:
    hub.trouble = {method: [503]}
    send(parcel)
    assert resolve("hf:me/mine", quiet=True).read_bytes() == tiny.read_bytes()


def test_a_hub_in_lasting_trouble_is_said_to_be_in_it(hub: Hub, parcel: Parcel) -> None:
    hub.trouble = {"POST": [500] * 20}
    with pytest.raises(CheckpointError, match=r"^hf:me/mine: the hub is in trouble \(500\), tried 5 times: try again"):
        send(parcel)
    assert not hub.repositories


def test_a_token_that_may_not_write(hub: Hub, parcel: Parcel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_somebody_else")
    with pytest.raises(CheckpointError, match=r"^hf:me/mine: the hub refuses it \(40[13]\): the token may not write"):
        send(parcel)


def test_without_a_token_it_says_how_to_get_one(hub: Hub, parcel: Parcel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(CheckpointError, match=r"^hf:me/mine: log in first, by `hf auth login` or HF_TOKEN"):
        send(parcel)
    assert not hub.asked


def test_without_a_network(hub: Hub, parcel: Parcel, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    point_to("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(CheckpointError, match=r"^hf:me/mine: the hub at http://127.0.0.1:9 cannot be reached, nothing"):
        send(parcel)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"^hf:me/mine: cannot be published, HF_HUB_OFFLINE keeps off"):
        send(parcel)


def test_a_transfer_that_is_refused_is_said_to_be(hub: Hub, parcel: Parcel) -> None:
    hub.trouble = {"PUT": [400]}
    with pytest.raises(
        CheckpointError, match=r"^hf:me/mine: the transfer failed, nothing is published: .*400"
    ) as refused:
        send(parcel)
    assert "\n" not in str(refused.value)
    assert not hub.repositories["me/mine"].commits


@pytest.mark.parametrize(
    "repo", ["mine", "me/mine/more", "me/", "/mine", "me/my one", "hf:me/mine", "me/mine@main", ""]
)
def test_what_is_no_name_of_a_repository_is_refused(tiny: Path, repo: str) -> None:
    with pytest.raises(UsageError, match="a repository on the hub is written user/name"):
        pack(tiny, repo)


def test_a_name_that_the_hub_does_not_take(hub: Hub, tiny: Path) -> None:
    with pytest.raises(CheckpointError, match=r"^hf:me/a--b: no name of a repository"):
        send(pack(tiny, "me/a--b"))


def test_what_nobody_may_use_is_not_published(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save(path, build("d2-gru", TINY), architecture="d2-gru", licence="unknown", training={})
    with pytest.raises(CheckpointError, match=r"mine.safetensors: it does not say what it may be used for"):
        pack(path, "me/mine")


def test_a_bag_is_not_one_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "bag.yaml").write_text("models: [a, b]")
    with pytest.raises(CheckpointError, match=r"bag.yaml: a bag of models; publish each of them"):
        pack(tmp_path / "bag.yaml", "me/mine")


def test_what_does_not_load_is_not_published(tmp_path: Path, tiny: Path) -> None:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(tiny.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"mine.safetensors: its weights cannot be read"):
        pack(path, "me/mine")


def test_a_card_beside_the_checkpoint_becomes_part_of_the_one_there(tmp_path: Path, tiny: Path) -> None:
    shutil.copy(tiny, tmp_path / "mine.safetensors")
    (tmp_path / "mine.md").write_text("# mine\n\n## Sound\n\nIt sounds like this.\n", "utf-8")
    card = pack(tmp_path / "mine.safetensors", "me/it").card
    assert card.endswith("\n\n## Sound\n\nIt sounds like this.\n")
    assert card.count("\n# ") == 1
    assert "## How it was made" not in card
    (tmp_path / "mine.md").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(CheckpointError, match=r"mine.md: the card cannot be read"):
        pack(tmp_path / "mine.safetensors", "me/it")
    assert os.listdir(tmp_path)
