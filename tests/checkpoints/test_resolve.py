"""From names to verified files: the real client of the hub against a small hub on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from separate.checkpoints import hub as ours
from separate.checkpoints import trouble
from separate.checkpoints.lock import lock_path, read_lock
from separate.checkpoints.registry import registry
from separate.checkpoints.resolve import resolve, where
from separate.checkpoints.weights import load
from separate.errors import CheckpointError
from tests.checkpoints.hub import ROW, TOKEN, Hub, environment, point_to, running_hub, sha256, use, xet_hash

NET = "hf:someone/music/net.safetensors"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running_hub() as hub:
        use(hub, tmp_path, monkeypatch)
        yield hub


@pytest.fixture
def net(hub: Hub, tiny: Path) -> bytes:
    """Serve someone/music with net.safetensors, and a bag."""
    content = tiny.read_bytes()
    bag = b"models: ['aaaa', 'bbbb']\nweights: null\n"
    files = {"net.safetensors": content, "README.md": b"# Music\n"}
    hub.add("someone/music", files)
    hub.add("someone/bag", {"bag.yaml": bag, "aaaa.safetensors": content, "bbbb.safetensors": content + b" "})
    hub.add("someone/private", files, private=True)
    hub.add("someone/gated", files, gated=True)
    return content


def refused(model: str) -> str:
    with pytest.raises(CheckpointError) as error:
        resolve(model)
    message = str(error.value)
    assert "\n" not in message
    return message


def blob(path: Path) -> Path:
    return path.resolve()


def test_a_file_is_fetched_once_and_then_needs_no_network(hub: Hub, net: bytes) -> None:
    path = resolve(NET)
    assert path.read_bytes() == net
    assert load(path).sources == ("vocals", "drums", "bass", "other")
    asked = len(hub.asked)
    assert resolve(NET) == path
    commit = hub.repositories["someone/music"].branches["main"]
    assert resolve(f"{NET}@{commit}") == resolve(f"{NET}@main") == path
    assert len(hub.asked) == asked
    assert read_lock() == {f"someone/music@{commit}/net.safetensors": sha256(net)}


def test_the_token_is_sent_to_the_hub_and_to_nobody_else(hub: Hub, net: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert resolve("hf:someone/private/net.safetensors").read_bytes() == net
    assert hub.transfers()
    for _, path, headers in hub.asked:
        assert ("authorization" in headers) == (not path.startswith("/cdn/"))


@pytest.mark.parametrize("text", ["hf:someone/music", "hf:someone/music@main"])
def test_a_repository_of_one_model_needs_no_file_name(hub: Hub, net: bytes, text: str) -> None:
    assert resolve(text).name == "net.safetensors"
    assert where(text) == resolve(text)


def test_the_usual_name_comes_first_and_needs_no_asking(hub: Hub, net: bytes) -> None:
    hub.add("someone/published", {"model.safetensors": net, "other.safetensors": net, "a.yaml": b"", "b.yaml": b""})
    path = resolve("hf:someone/published")
    assert path.name == "model.safetensors"
    asked = len(hub.asked)
    assert resolve("hf:someone/published") == path
    assert len(hub.asked) == asked
    hub.add("someone/many", {"one.safetensors": net, "two.safetensors": net})
    assert "say which file is meant, hf:someone/many/FILE; of models it has one.safetensors, two" in refused(
        "hf:someone/many"
    )


def test_a_bag_is_fetched_with_all_that_it_names(hub: Hub, net: bytes) -> None:
    assert where("hf:someone/bag") is None
    path = resolve("hf:someone/bag")
    assert path.name == "bag.yaml"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["aaaa.safetensors", "bag.yaml", "bbbb.safetensors"]
    assert where("hf:someone/bag") == path
    path.with_name("bbbb.safetensors").unlink()
    assert where("hf:someone/bag") is None
    assert resolve("hf:someone/bag") == path
    assert where("hf:someone/bag/bag.yaml") == path
    blob(path).write_bytes(b"models: [")
    assert where("hf:someone/bag") is None
    assert resolve("hf:someone/bag") == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "models: 3",
        "models: ['../../etc/passwd']",
        "models: [{}]",
        "a: !!python/x y",
        "models: [a]" + " " * 70_000,
    ],
)
def test_a_bag_that_is_none(hub: Hub, net: bytes, text: str) -> None:
    hub.add("someone/bad", {"bag.yaml": text.encode()})
    assert "not a bag of models" in refused("hf:someone/bad")


def test_the_newest_is_asked_for_only_when_told_so(hub: Hub, net: bytes) -> None:
    old = resolve(NET)
    hub.add("someone/music", {"net.safetensors": net + b"new"})
    assert resolve(NET) == old
    new = resolve(NET, update=True)
    assert new.read_bytes() == net + b"new"
    assert resolve(NET) == new
    assert resolve(NET, update=True) == new
    assert len(hub.transfers()) == 2


def test_without_a_network_what_is_here_will_do(
    hub: Hub, net: bytes, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = resolve(NET)
    resolve("hf:someone/bag")
    point_to("http://127.0.0.1:9", monkeypatch)
    assert resolve(NET) == path
    assert resolve("hf:someone/music") == path
    assert resolve("hf:someone/bag").name == "bag.yaml"
    assert resolve(NET, update=True) == path
    assert "whether it is the newest cannot be asked" in capfd.readouterr().err


def test_without_a_network_what_is_not_here_is_said_and_what_is(
    hub: Hub, net: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_to("http://127.0.0.1:9", monkeypatch)
    for model in (NET, "hf:someone/music"):
        message = refused(model)
        assert "the hub at http://127.0.0.1:9 cannot be reached (" in message
        assert f"`separate models pull {model}` where there is a network" in message
        assert "here already: d2-gru, d2-gru-research" in message


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("hf:someone/music/nett.safetensors", "no such file in this repository (did you mean net.safetensors?)"),
        ("hf:someone/music/qqqqqqq.yaml", "no such file in this repository (there are net.safetensors, README.md)"),
        ("hf:someone/musik/net.safetensors", "no such repository (did you mean someone/music?), or it is private"),
        ("hf:nobody/music/net.safetensors", "no such repository, or it is private: log in by `hf auth login`"),
        (f"{NET}@maim", "no such revision (did you mean main?); without one you get the newest"),
        ("hf:someone/private/net.safetensors", "or it is private: log in by `hf auth login` or HF_TOKEN"),
        ("hf:someone/gated/net.safetensors", "/someone/gated, then log in by `hf auth login` or HF_TOKEN"),
        ("hf:someone", "is written hf:user/repo/file.safetensors@revision"),
        ("hf:someone/music/net.pth", "is written hf:user/repo/file.safetensors@revision"),
        (f"{NET}@", "is written hf:user/repo/file.safetensors@revision"),
        ("hf:some one/m--usic/net.safetensors", "no name of a repository"),
        ("hf:someone/music/../net.safetensors", "is written hf:user/repo/file.safetensors@revision"),
    ],
)
def test_what_the_hub_does_not_have(hub: Hub, net: bytes, model: str, said: str) -> None:
    message = refused(model)
    assert message.startswith(f"{model}: ")
    assert said in message


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_hub_is_asked_again(
    hub: Hub, net: bytes, status: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.trouble = {"HEAD": [status, status]}
    resolve(NET)
    assert capfd.readouterr().err.count(f"the hub is busy ({status}); trying again in ") == 2
    hub.trouble = {"HEAD": [status] * 5}
    message = refused("hf:someone/bag/bag.yaml")
    assert f"({status})" in message
    assert "try again later" in message or "wait some minutes" in message
    assert not hub.trouble["HEAD"]


def test_a_hub_that_stumbles_in_mid_transfer_is_asked_again(hub: Hub, net: bytes) -> None:
    hub.trouble = {"GET": [500, 502]}
    assert resolve(NET).read_bytes() == net


@pytest.mark.parametrize(("status", "said"), [(403, "refuses it (403): log in by `hf auth login`"), (418, "(418)")])
def test_a_hub_that_refuses_is_not_asked_again(hub: Hub, net: bytes, status: int, said: str) -> None:
    hub.trouble = {"HEAD": [status, status]}
    assert said in refused(NET)
    assert hub.trouble == {"HEAD": [status]}


def test_a_repository_that_has_another_name_now(hub: Hub, net: bytes) -> None:
    hub.renamed = {"somebody/old": "someone/music"}
    assert resolve("hf:somebody/old/net.safetensors").read_bytes() == net


def test_what_cannot_be_had_by_xet_comes_the_plain_way(hub: Hub, net: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    hub.xet = "lost"
    assert resolve(NET).read_bytes() == net
    assert ("not to be had by Xet" in capfd.readouterr().err) == (find_spec("hf_xet") is not None)
    tokens = [path for _, path, _ in hub.asked if "xet-read-token" in path]
    assert bool(tokens) == (find_spec("hf_xet") is not None)


def by_xet(hub: Hub, home: Path, model: str = NET) -> Path:
    """Resolve a model that is in Xet in a process of its own, whose caches are where its home is."""
    pytest.importorskip("hf_xet")
    hub.xet = "there"
    with start(hub, home, model) as process:
        path = process.communicate()[0].strip()
    assert process.returncode == 0, path
    return Path(path)


def test_what_is_in_xet_comes_by_xet(hub: Hub, net: bytes, tmp_path: Path) -> None:
    path = by_xet(hub, tmp_path)
    assert path.read_bytes() == net
    assert not hub.transfers()
    assert any(asked.startswith("/xorbs/") for _, asked, _ in hub.asked)
    hub.asked = []
    assert resolve(NET) == path
    lock_path().unlink()  # as if another program had fetched it
    assert resolve(NET) == path
    assert hub.asked == []


def test_the_user_may_forbid_xet(hub: Hub, net: bytes, tmp_path: Path) -> None:
    hub.xet = "there"
    with start(hub, tmp_path, HF_HUB_DISABLE_XET="1") as process:
        assert Path(process.communicate()[0].strip()).read_bytes() == net
    assert len(hub.transfers()) == 1


def test_what_two_repositories_have_from_xet_is_kept_for_the_other(hub: Hub, net: bytes, tmp_path: Path) -> None:
    hub.add("someone/else", {"net.safetensors": net})
    one, two = by_xet(hub, tmp_path), by_xet(hub, tmp_path, "hf:someone/else/net.safetensors")
    store = one.resolve()
    assert ours.remove("someone/music", [one]) == (0 if two.resolve() == store else len(net))
    assert two.read_bytes() == net
    assert where(NET) is None
    assert ours.remove("someone/else", [two]) == len(net)
    assert not store.exists()
    assert by_xet(hub, tmp_path).read_bytes() == net


def test_what_came_by_xet_and_is_damaged_is_mended(hub: Hub, net: bytes, tmp_path: Path) -> None:
    path = by_xet(hub, tmp_path)
    blob(path).chmod(0o644)
    blob(path).write_bytes(net[:-1] + b"?")
    assert by_xet(hub, tmp_path).read_bytes() == net
    assert not hub.transfers()


def test_what_xet_has_wrong_comes_the_plain_way(hub: Hub, net: bytes, tmp_path: Path) -> None:
    hub.lies = {xet_hash(net): net[:-1] + b"?"}
    assert by_xet(hub, tmp_path).read_bytes() == net
    assert len(hub.transfers()) == 1


def test_a_process_that_was_killed_while_xet_sends_leaves_nothing_wrong(hub: Hub, net: bytes, tmp_path: Path) -> None:
    pytest.importorskip("hf_xet")
    big = net + os.urandom(1_000_000)
    hub.add("someone/music", {"net.safetensors": big})
    hub.xet, hub.slow = "there", threading.Event()
    with start(hub, tmp_path) as process:
        assert hub.halfway.wait(60)
        process.kill()
    hub.slow.set()
    hub.slow = None
    assert where(NET) is None
    path = by_xet(hub, tmp_path)
    assert path.read_bytes() == big
    assert not hub.transfers()
    ours.remove("someone/music", [path])
    assert not [left for left in tmp_path.rglob("*.incomplete") if left.is_file()]


def test_the_pause_that_the_hub_asks_for_is_kept(
    hub: Hub, net: bytes, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trouble, "LONGEST_PAUSE", 0.05)
    hub.trouble, hub.retry_after = {"HEAD": [429]}, "3600"
    resolve(NET)
    assert "trying again in 0.05 s" in capfd.readouterr().err


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_a_transfer_that_breaks_off_goes_on(hub: Hub, net: bytes, ignores_ranges: bool) -> None:
    hub.breaks, hub.ignores_ranges = [len(net) // 2], ignores_ranges
    assert resolve(NET).read_bytes() == net
    first, second = hub.transfers()
    assert "range" not in first
    assert second["range"] == f"bytes={len(net) // 2}-"


def test_a_partial_file_never_counts(hub: Hub, net: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.breaks = [1000] + [0] * 20
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    assert "what has come so far is kept" in refused(NET)
    assert where(NET) is None
    hub.breaks, hub.asked = [], []
    assert resolve(NET).read_bytes() == net
    (transfer,) = hub.transfers()
    assert transfer["range"] == "bytes=1000-"


def test_a_file_that_is_not_what_the_hub_says_is_refused(hub: Hub, net: bytes) -> None:
    hub.lies = {sha256(net): bytes(len(net))}
    assert "what came is not what the hub says that it holds" in refused(NET)
    assert where(NET) is None
    hub.lies = {}
    assert resolve(NET).read_bytes() == net


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_cache_is_noticed_and_mended(
    hub: Hub, net: bytes, damage: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = resolve(NET)
    wrong = {"cut": net[:-100], "flipped": net[:-1] + bytes([net[-1] ^ 1]), "empty": b""}[damage]
    blob(path).write_bytes(wrong)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "damaged in the cache, and HF_HUB_OFFLINE" in refused(NET)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    capfd.readouterr()
    assert resolve(NET).read_bytes() == net
    assert "damaged in the cache; fetching it again" in capfd.readouterr().err


def test_what_another_program_fetched_is_verified_too(hub: Hub, net: bytes) -> None:
    from huggingface_hub import hf_hub_download

    path = Path(hf_hub_download("someone/music", "net.safetensors"))
    card = Path(hf_hub_download("someone/bag", "bag.yaml"))
    hub.asked = []
    assert (resolve(NET), hub.transfers()) == (path, [])
    blob(card).write_bytes(b"models: ['cccc']\n")
    assert resolve("hf:someone/bag").read_bytes().startswith(b"models: ['aaaa'")


def test_another_file_than_the_one_that_came_first_is_refused(hub: Hub, net: bytes) -> None:
    path = resolve(NET)
    lock = json.loads(lock_path().read_text())
    lock["sha256"] = dict.fromkeys(lock["sha256"], sha256(b"what came first"))
    lock_path().write_text(json.dumps(lock))
    message = refused(NET)
    assert "sends another file than the one noted in" in message
    assert "separate models remove" in message
    assert path.exists()


def test_the_hash_in_a_row_counts_for_the_hub_too(
    hub: Hub, net: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong = (ROW.format(name=name, source=NET, licence="MIT") for name in ("right", "wrong"))
    table = tmp_path / "pinned.toml"
    table.write_text(f'{right}sha256 = "{sha256(net).upper()}"\n{wrong}sha256 = "{"0" * 64}"\n')
    monkeypatch.setenv("SEPARATE_REGISTRY", str(table))
    assert resolve("right").read_bytes() == net
    assert "is damaged, or the `sha256` of its row is that of another file" in refused("wrong")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 2, "sha256": {}}', '{"version": 1}'])
def test_a_damaged_lock_is_said(hub: Hub, net: bytes, content: str) -> None:
    resolve(NET)
    lock_path().write_text(content)
    assert refused(NET).startswith(f"{lock_path()}: cannot be read (")
    lock_path().unlink()
    assert resolve(NET).read_bytes() == net


def test_a_full_disk_is_said_before_or_when_it_is_full(hub: Hub, net: bytes, tmp_path: Path) -> None:
    hub.sizes = {sha256(net): 10**18}
    assert "do not fit the" in refused(NET)
    hub.sizes = {}
    part = ours.part_of(tmp_path / "hub/models--someone--music/blobs" / sha256(net))
    part.symlink_to("/dev/full")
    assert "the disk is full: make room in" in refused(NET)
    assert not part.is_symlink()
    assert resolve(NET).read_bytes() == net


def test_a_hub_that_is_none(hub: Hub, net: bytes) -> None:
    hub.trouble = {"HEAD": [200]}
    assert f"what answers at {hub.url} is no Hugging Face hub" in refused(NET)


@pytest.mark.parametrize("page", [b"<html>log in</html>", b"\xff", b"{}", b"[]", b'{"id": "a/b", "siblings": [{}]}'])
def test_what_answers_like_no_hub(hub: Hub, net: bytes, page: bytes) -> None:
    hub.page = page
    assert refused("hf:someone/music") == (
        f"hf:someone/music: what answers at {hub.url} is no Hugging Face hub; see HF_ENDPOINT"
    )
    assert "no such repository, or it is private" in refused("hf:someone/musik/net.safetensors")  # and no names near it


def test_a_commit_leads_out_of_no_cache(hub: Hub, net: bytes) -> None:
    music = hub.repositories["someone/music"]
    music.branches["main"] = "../../../evil"
    music.commits["../../../evil"] = {"net.safetensors": net}
    assert "is no Hugging Face hub" in refused(NET)


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("HF_TOKEN", "hf_t\xf6ken", "'ascii' codec can't encode character '\\xf6'"),
        ("ALL_PROXY", "foo://bar:1", "Unknown scheme for proxy URL"),
        ("HF_ENDPOINT", "http://127.0.0.1:99999", "Port out of range 0-65535"),
        ("HF_ENDPOINT", "http://[bad", "Invalid IPv6 URL"),
        ("HF_HUB_ETAG_TIMEOUT", "abc", "invalid literal for int() with base 10: 'abc'"),
    ],
)
def test_a_variable_that_is_wrong_is_said(
    hub: Hub, tmp_path: Path, variable: str, value: str, why: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with start(hub, tmp_path, **{variable: value}) as process:
        message = process.communicate()[0]
    assert message.startswith(f"CheckpointError: {NET}: the hub cannot be asked: {why}")
    assert message.endswith("; see HF_ENDPOINT, HF_TOKEN and the proxy's variables\n")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("cache", ["hub", "up/../hub", "link"])
def test_a_cache_may_have_several_names(
    hub: Hub, net: bytes, tmp_path: Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    (tmp_path / "up").mkdir()
    (tmp_path / "link").symlink_to("hub")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache if cache == "hub" else str(tmp_path / cache))
    assert resolve("hf:someone/bag/bag.yaml").is_relative_to(tmp_path / "hub")
    hub.asked = []
    assert where("hf:someone/bag") == resolve("hf:someone/bag/bag.yaml")
    assert hub.asked == []
    path = resolve(NET)
    assert ours.remove("someone/music", [path]) == len(net)
    assert where(NET) is None
    assert lock_path() == tmp_path / "separate-lock.json"


def test_a_file_that_is_called_by_no_hash_is_as_long_as_the_hub_says(hub: Hub, net: bytes) -> None:
    hub.etag, hub.sizes = "5f3c-1a2b", {"5f3c-1a2b": len(net) + 1}
    assert "what came is not what the hub says that it holds" in refused("hf:someone/music/net.safetensors")
    assert where(NET) is None
    hub.sizes = {}
    assert resolve(NET).read_bytes() == net


def test_a_damaged_ref_is_said(hub: Hub, net: bytes, tmp_path: Path) -> None:
    path = resolve(NET)
    ref = tmp_path / "hub/models--someone--music/refs/main"
    ref.write_bytes(b"\xff\xfe")
    for model in (NET, "hf:someone/music"):
        assert refused(model) == f"{ref}: is damaged; delete it, and the hub is asked which commit it is"
        assert where(model) is None
    ref.unlink()
    assert resolve("hf:someone/music") == path


def test_what_is_in_the_way_is_named(hub: Hub, net: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hub").write_text("a file")
    blobs = tmp_path / "hub/models--someone--music/blobs"
    assert refused(NET).endswith(f"cannot be fetched: {blobs}: Not a directory; see HF_HOME and SSL_CERT_FILE")
    with start(hub, tmp_path, HF_ENDPOINT="https://127.0.0.1:9", SSL_CERT_FILE="none.pem") as process:
        message = process.communicate()[0]
    assert message.endswith("cannot be fetched: No such file or directory; see HF_HOME and SSL_CERT_FILE\n")


RESOLVE = """
import sys
from separate.checkpoints.resolve import resolve
from separate.errors import CheckpointError
try:
    print(resolve(sys.argv[1], quiet=True))
except CheckpointError as error:
    print("CheckpointError:", error)
"""


def start(hub: Hub, home: Path, model: str = NET, **more: str) -> subprocess.Popen[str]:
    """Resolve in a process of its own."""
    command = [sys.executable, "-c", RESOLVE, model]
    return subprocess.Popen(command, env=environment(hub, home, **more), stdout=subprocess.PIPE, text=True)


def test_the_variables_of_the_hub_count_and_offline_is_offline(hub: Hub, net: bytes, tmp_path: Path) -> None:
    with start(hub, tmp_path, HF_HUB_OFFLINE="1") as process:
        message = process.communicate()[0]
    assert "not in the cache, and HF_HUB_OFFLINE keeps off the network" in message
    assert f"`separate models pull {NET}` where there is a network" in message
    assert "here already: d2-gru, " in message
    with start(hub, tmp_path) as process:
        fetched = process.communicate()[0]
    asked = len(hub.asked)
    with start(hub, tmp_path, HF_HUB_OFFLINE="1") as process:
        assert process.communicate()[0] == fetched
    assert len(hub.asked) == asked
    assert Path(fetched.strip()).read_bytes() == net


def test_a_process_that_was_killed_in_mid_transfer_leaves_what_the_next_one_goes_on_with(
    hub: Hub, net: bytes, tmp_path: Path
) -> None:
    big = net + os.urandom(4_000_000)
    hub.add("someone/music", {"net.safetensors": big})
    hub.slow = threading.Event()
    part = ours.part_of(tmp_path / "hub/models--someone--music/blobs" / sha256(big))
    with start(hub, tmp_path) as process:
        assert hub.halfway.wait(60)
        while not (part.exists() and part.stat().st_size):
            assert process.poll() is None
        process.kill()
    have = part.stat().st_size
    assert 0 < have < len(big)
    assert where(NET) is None
    hub.slow.set()
    hub.slow, hub.asked = None, []
    assert resolve(NET).read_bytes() == big
    (transfer,) = hub.transfers()
    assert transfer["range"] == f"bytes={have}-"
    assert not part.exists()


def test_two_processes_at_once_fetch_once(hub: Hub, net: bytes, tmp_path: Path) -> None:
    hub.slow = threading.Event()
    with start(hub, tmp_path) as one:
        assert hub.halfway.wait(60)
        with start(hub, tmp_path) as two:
            while sum(method == "HEAD" for method, _, _ in hub.asked) < 2:
                assert two.poll() is None
            hub.slow.set()
            paths = {process.communicate()[0].strip() for process in (one, two)}
    (path,) = paths
    assert Path(path).read_bytes() == net
    assert len(hub.transfers()) == 1


def test_a_cache_that_can_only_be_read_is_read(hub: Hub, net: bytes, tmp_path: Path) -> None:
    # Root may write anywhere, unless that is taken from it.
    setpriv = shutil.which("setpriv")
    if not os.geteuid() and not setpriv:
        pytest.skip("as root, this needs setpriv")
    less = [] if os.geteuid() else [str(setpriv), "--bounding-set=-all"]
    path = resolve(NET)
    lock_path().unlink()
    folders = [tmp_path, *(folder for folder in tmp_path.rglob("*") if folder.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    try:
        said = []
        for model in (NET, "hf:someone/bag/bag.yaml"):
            command = [*less, sys.executable, "-c", RESOLVE, model]
            said.append(subprocess.check_output(command, env=environment(hub, tmp_path), text=True))
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert said[0] == f"{path}\n"
    assert "cannot be written to the cache" in said[1]
    assert "set HF_HOME to a folder of your own" in said[1]


def test_the_rows_of_the_registry_are_places_of_the_hub(hub: Hub, net: bytes, tmp_path: Path) -> None:
    settings = tmp_path / "settings/separate"
    settings.mkdir(parents=True)
    row = 'architecture = "d2-gru"\nstems = ["vocals"]\nsample_rate = 44100\nlicence = "MIT"\nsummary = "x"\n'
    (settings / "net.safetensors").write_bytes(net)
    own = f'[far]\nsource = "hf:someone/bag"\n{row}\n[near]\nsource = "file:net.safetensors"\n{row}'
    (settings / "checkpoints.toml").write_text(own)
    assert list(registry())[-2:] == ["far", "near"]
    assert where("far") is None
    assert resolve("far").name == "bag.yaml"
    assert where("far") == resolve("far")
    assert resolve("near") == settings / "net.safetensors"
