"""RoFormers of other programs: their weights, the settings beside them, and what these may not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from separate.checkpoints.convert import convert
from separate.checkpoints.weights import load, read_header, save
from separate.errors import CheckpointError, UsageError
from separate.models import build
from separate.models.roformer import PRESETS
from tests.models.test_roformer import MEL, TABLE, awake, song

YAML = """
audio:
  chunk_size: 88200
  num_channels: 2
  sample_rate: 44100

model:
  dim: 12
  depth: 2
  stereo: true
  stft_n_fft: 256
  stft_hop_length: 64
  stft_normalized: False
  freqs_per_bands: !!python/tuple
    - 2
    - 3
  multi_stft_resolutions_window_sizes: !!python/tuple [4096, 2048]

training:
  instruments: [vocals, other]
  target_instrument: vocals
"""


def theirs(model: Any) -> dict[str, Tensor]:
    """The weights of a model as others store them: with the speeds at which positions turn pairs of numbers."""
    speeds = 10000.0 ** -(torch.arange(0, model.config.head_width, 2) / model.config.head_width)
    layers = {name.partition("to_gates")[0] for name in model.state_dict() if "to_gates" in name}
    state: dict[str, Tensor] = model.state_dict()
    return state | {f"{layer}rotary_embed.freqs": speeds for layer in layers}


def written(folder: Path, model: Any, settings: str | None = YAML, name: str = "model.ckpt") -> list[Path]:
    path = folder / name
    if name.endswith(".safetensors"):
        save_file({name: value.clone() for name, value in theirs(model).items()}, path)
    else:
        torch.save(theirs(model), path)
    if settings is None:
        return [path]
    path.with_suffix(".yaml").write_text(settings, "utf-8")
    return [path, path.with_suffix(".yaml")]


def converted(folder: Path, paths: list[Path], **options: Any) -> Any:
    convert(paths, folder / "converted.safetensors", **options)
    return load(folder / "converted.safetensors")


@pytest.mark.parametrize("name", ["model.ckpt", "model.safetensors"])
@pytest.mark.parametrize("config", [TABLE, MEL, MEL | {"linear_layers": 1}, TABLE | {"time_layers": 2}])
def test_what_is_converted_says_what_it_said(tmp_path: Path, config: dict[str, Any], name: str) -> None:
    model = awake(config)
    mine = converted(tmp_path, written(tmp_path, model, name=name), licence="MIT")
    assert (mine.sources, mine.segment, mine.context) == (("vocals", "accompaniment"), 2.0, 0.125)
    assert torch.equal(mine(song(0.2)), model(song(0.2)))
    header = read_header(tmp_path / "converted.safetensors")
    assert (header.architecture, header.licence) == ("roformer", "MIT")
    assert header.training == {"converted from": [name, "model.yaml"]}


@pytest.mark.parametrize("nest", ["state_dict", "model_state_dict", "state"])
def test_a_training_checkpoint_is_unwrapped(tmp_path: Path, nest: str) -> None:
    paths = written(tmp_path, awake(MEL))
    torch.save({"epoch": 3, nest: theirs(awake(MEL)), "optimizer": {"lr": 0.1}}, paths[0])
    assert torch.equal(converted(tmp_path, paths)(song(0.1)), awake(MEL)(song(0.1)))


@pytest.mark.parametrize(
    ("training", "stems"),
    [
        ("instruments: [vocals, other]\n  target_instrument: vocals", ("vocals", "accompaniment")),
        ("instruments: [Vocals, Instrumental]\n  target_instrument: Instrumental", ("accompaniment", "vocals")),
        ("instruments: [karaoke, other]\n  target_instrument: karaoke", ("karaoke", "other")),
        ("instruments: [vocals, bass, drums, other]\n  target_instrument: drums", ("drums", "rest")),
        ("instruments: [dry, wet]\n  target_instrument: dry", ("dry", "wet")),
        ("instruments: [vocals]\n  target_instrument: null", ("vocals", "accompaniment")),
    ],
)
def test_stems_are_called_what_the_settings_call_them(tmp_path: Path, training: str, stems: tuple[str, ...]) -> None:
    settings = YAML[: YAML.index("training:")] + f"training:\n  {training}\n"
    model = converted(tmp_path, written(tmp_path, awake(TABLE), settings))
    assert (model.sources, model.sums) == (stems, True)


def test_several_masks_have_the_names_of_the_settings_or_those_that_are_given(tmp_path: Path) -> None:
    paths = written(
        tmp_path, awake(MEL | {"sources": ("a", "b", "c"), "rest": False}), YAML.replace("vocals, other", "")
    )
    with pytest.raises(UsageError, match="these weights separate 3 stems, not"):
        converted(tmp_path, paths)
    model = converted(tmp_path, paths, sources=["drums", "bass", "piano"])
    assert (model.sources, model.sums) == (("drums", "bass", "piano"), False)
    model = converted(tmp_path, paths, sources=["drums", "bass", "piano", "other"], force=True)
    assert (model.sources, model.sums) == (("drums", "bass", "piano", "other"), True)


def test_a_mono_model_with_other_settings(tmp_path: Path) -> None:
    settings = YAML.replace("stereo: true", "stereo: false\n  sample_rate: 22050").replace("length: 64", "length: 32")
    model = awake(TABLE | {"stereo": False, "hop": 32, "sample_rate": 22050, "mask_layers": 0})
    mine = converted(tmp_path, written(tmp_path, model, settings))
    assert (mine.sample_rate, mine.segment, mine.config.hop) == (22050, 4.0, 32)
    assert torch.equal(mine(song(0.1)), model(song(0.1)))


def test_a_known_shape_needs_no_settings_and_an_unknown_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = written(tmp_path, awake(TABLE), None)
    with pytest.raises(CheckpointError, match=r"model.ckpt: how far its frames are apart .*: give the .yaml with them"):
        converted(tmp_path, paths)
    monkeypatch.setitem(PRESETS, "published", TABLE | {"segment": 5.0})
    model = converted(tmp_path, paths)
    assert (model.sources, model.segment, model.config.hop) == (("vocals", "accompaniment"), 5.0, 64)
    assert converted(tmp_path, paths, sources=["piano"], force=True).sources == ("piano",)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            "a: !!python/object/apply:os.system [touch made]",
            r"it names python/object/apply:os.system, which is no setting",
        ),
        ("a: !!python/name:os.system", "it names python/name:os.system, which is no setting"),
        ("a: [1, 2", "it is damaged"),
        ("[" * 1000, "it is damaged"),
        ("- 1\n- 2", "holds no settings by name, but a list"),
        ("#" * 2**20 + "\na: 1", "too large for a file of settings"),
        ("model: [1]", r"model is no table of settings: \[1\]"),
        (
            YAML.replace("stereo: true", "skip_connection: true"),
            "made with skip_connection = True, which ours does not",
        ),
        (YAML.replace("length: 64", "length: near"), "roformer: hop = 'near' is not of the kind of its default, 441"),
        (YAML.replace("length: 64", "length: 640"), "roformer: n_fft = 256 must be even, and hop = 640"),
        (YAML.replace("n_fft: 256", "n_fft: 512"), "these weights are not a whole roformer"),
        (YAML.replace("rate: 44100", "rate: 0"), "sample_rate = 0 is no whole number"),
        (YAML.replace("88200", "long"), "chunk_size = 'long' is no whole number"),
        (YAML.replace("88200", "9" * 400), "one of its numbers is too large"),
        (YAML.replace("88200", "true"), "chunk_size = True is no whole number"),
        (YAML.replace("[vocals, other]", "5"), "instruments are no list of names: 5"),
        (YAML.replace("target_instrument: vocals", ""), "these weights separate 1 stems, not vocals, other"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, awake(MEL), settings)
    with pytest.raises((CheckpointError, UsageError), match=says) as refused:
        convert([Path("model.ckpt"), Path("model.yaml")], Path("x.safetensors"))
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.ckpt", "model.yaml"]


def test_weights_that_are_of_another_kind_of_roformer_are_refused_by_name(tmp_path: Path) -> None:
    model = awake(TABLE)
    paths = written(tmp_path, model)
    torch.save(theirs(model) | {"shared_qkv_bias": torch.zeros(3)}, paths[0])
    with pytest.raises(CheckpointError, match="these weights are not a whole roformer: shared_qkv_bias is unknown"):
        converted(tmp_path, paths)
    torch.save(theirs(model) | {"layers.0.0.layers.0.0.rotary_embed.freqs": torch.ones(2)}, paths[0])
    with pytest.raises(
        CheckpointError, match=r"layers.0.0.layers.0.0.rotary_embed.freqs turns positions by other angles"
    ):
        converted(tmp_path, paths)
    state = theirs(model)
    del state["layers.1.0.layers.0.0.to_qkv.weight"]
    torch.save(state, paths[0])
    with pytest.raises(CheckpointError, match=r"a whole roformer: layers.1.0.layers.0.0.to_qkv.weight is missing"):
        converted(tmp_path, paths)


def test_settings_alone_are_nothing_to_convert(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model.yaml: settings alone; add the file of weights"):
        converted(tmp_path, written(tmp_path, awake(MEL))[1:])


@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}      ", b"\xff" * 64])
def test_a_damaged_safetensors_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.safetensors: (not a safetensors file|holds no weights)"):
        converted(tmp_path, [path])


def test_half_precision_stays(tmp_path: Path) -> None:
    model = awake(MEL)
    paths = written(tmp_path, model)
    torch.save({name: value.half() for name, value in theirs(model).items()}, paths[0])
    mine = converted(tmp_path, paths)
    assert (tmp_path / "converted.safetensors").stat().st_size < 0.6 * sum(
        v.nbytes for v in model.state_dict().values()
    )
    again = build("roformer", MEL | {"segment": 2.0, "context": 0.125})
    again.load_state_dict({name: value.half() for name, value in model.state_dict().items()})
    assert torch.equal(mine(song(0.1)), again.eval()(song(0.1)))


# Files of weights alone, as they are published.


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A model of a shape that is known."""
    monkeypatch.setitem(PRESETS, "published", MEL | {"segment": 2.0, "context": 0.125})
    return awake(MEL | {"segment": 2.0, "context": 0.125})


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_weights_of_a_known_shape_are_read_as_they_are(
    tmp_path: Path, published: Any, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "MelBandRoformer_fp16.safetensors"
    save_file({name: value.half() for name, value in theirs(published).items()}, path, metadata)
    header = read_header(path)
    assert (header.architecture, header.sources, header.licence) == ("roformer", ("vocals", "accompaniment"), "unknown")
    published.load_state_dict({name: value.half() for name, value in published.state_dict().items()})
    assert torch.equal(load(path)(song(0.2)), published(song(0.2)))


def test_weights_of_an_unknown_shape_need_their_settings(tmp_path: Path) -> None:
    (path,) = written(tmp_path, awake(MEL), None, "mine.safetensors")
    with pytest.raises(CheckpointError, match=r"mine.safetensors: how far .* give the .yaml with them; `separate conv"):
        read_header(path)


def test_weights_that_turn_otherwise_are_not_read_as_they_are(tmp_path: Path, published: Any) -> None:
    path = tmp_path / "model.safetensors"
    turns = {"layers.0.0.layers.0.0.rotary_embed.freqs": torch.ones(2)}
    save_file({name: value.clone() for name, value in (theirs(published) | turns).items()}, path)
    with pytest.raises(CheckpointError, match=r"model.safetensors: layers.0.0.* turns positions by other angles"):
        load(path)


def test_a_checkpoint_of_ours_stays_what_it_says(tmp_path: Path) -> None:
    model = build("roformer", MEL | {"segment": 3.0, "sources": ("a", "b")})
    save(tmp_path / "mine.safetensors", model, architecture="roformer", licence="MIT", training={})
    assert load(tmp_path / "mine.safetensors").config == model.config
