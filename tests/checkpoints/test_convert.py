"""Weights of other programs: what is converted says what its program says, and what does not fit is refused by name."""

from __future__ import annotations

import hashlib
import re
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from separate.checkpoints.convert import FORMATS, convert
from separate.checkpoints.weights import load, read_header
from separate.errors import CheckpointError, OutputError, OutputExists, UsageError
from separate.models import MODELS
from separate.models.demucs import PRESETS as DEMUCS
from separate.models.demucs import Demucs, DemucsConfig
from separate.separator import ArraySong, Separator
from tests.conftest import music
from tests.data import make_spleeter
from tests.models.test_demucs import peer

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from openunmix.model import OpenUnmix as TheirNet

State = dict[str, Tensor]


def converted(folder: Path, *paths: Path, **options: Any) -> Any:
    """Convert and load."""
    target = folder / "converted.safetensors"
    convert(paths, target, **options)
    assert sorted(file.name for file in folder.glob(".*")) == []
    return load(target)


def saved(content: Any, path: Path, legacy: bool = False) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def randomised(net: nn.Module, seed: int = 0) -> nn.Module:
    """Give weights and statistics values of their own."""
    torch.manual_seed(seed)
    for name, value in net.state_dict().items():
        if name.endswith(("running_var", "scale")):
            value.uniform_(0.5, 2)
        elif value.is_floating_point():
            value.normal_(0, 0.2)
    return net.eval()


# Open-Unmix.

STEMS = ("drums", "other", "vocals", "bass")


def umx(seed: int = 0, **changes: Any) -> Any:
    return randomised(TheirNet(**({"nb_bins": 513, "hidden_size": 16, "max_bin": 372} | changes)), seed)


def named_by_sum(content: Any, folder: Path, name: str) -> Path:
    """Save as the published files are called: the name, and the beginning of the file's SHA-256."""
    path = saved(content, folder / "file", legacy=True)
    return path.rename(folder / f"{name}-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth")


@pytest.mark.parametrize("changes", [{}, {"unidirectional": True}, {"nb_layers": 1, "max_bin": None}])
def test_four_files_of_open_unmix_become_one(tmp_path: Path, changes: dict[str, Any]) -> None:
    nets = {name: umx(i, **changes) for i, name in enumerate(STEMS)}
    # The first published files have these, too.
    more = {"sample_rate": torch.tensor(44100), "stft.window": torch.ones(8), "transform.0.window": torch.ones(8)}
    paths = [named_by_sum(net.state_dict() | more, tmp_path, name) for name, net in nets.items()]
    model = converted(tmp_path, *paths, licence="MIT")
    assert model.sources == ("vocals", "drums", "bass", "other")
    assert (model.config.n_fft, model.config.hop, model.config.hidden) == (1024, 256, 16)
    m = torch.rand(2, 2, 513, 9)
    with torch.inference_mode():
        ours = model.estimate(m)
        for i, name in enumerate(model.sources):
            torch.testing.assert_close(ours[:, i], nets[name](m.clone()), rtol=0, atol=1e-5)
    header = read_header(tmp_path / "converted.safetensors")
    assert (header.architecture, header.licence) == ("open-unmix", "MIT")
    assert header.training == {"converted from": [path.name for path in paths]}


def test_stems_of_open_unmix_can_have_any_name(tmp_path: Path) -> None:
    paths = [saved(umx(i).state_dict(), tmp_path / f"{name}.pth") for i, name in enumerate("ab")]
    assert converted(tmp_path, *paths).sources == ("a", "b")
    named = converted(tmp_path, *paths, sources=["speech", "noise"], force=True)
    assert torch.equal(named.nets["noise"].fc3.weight, umx(1).fc3.weight)


def test_a_training_checkpoint_of_open_unmix_is_unwrapped(tmp_path: Path) -> None:
    path = saved({"epoch": 7, "state_dict": umx().state_dict(), "best_loss": 0.5}, tmp_path / "vocals.chkpnt")
    assert converted(tmp_path, path).sources == ("vocals",)


def test_a_file_that_is_not_what_its_name_says(tmp_path: Path) -> None:
    path = saved(umx().state_dict(), tmp_path / "vocals-b62c91ce.pth")
    with pytest.raises(CheckpointError, match=r"vocals-b62c91ce.pth: its SHA-256 begins with [0-9a-f]{8}, not with"):
        convert([path], tmp_path / "x.safetensors")


# Demucs.


@pytest.fixture
def pickled(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Save as Demucs version 1 did: its class by name, and what it was made with."""

    class Class(nn.Module):
        pass

    Class.__module__, Class.__qualname__, Class.__name__ = "demucs.model", "Demucs", "Demucs"
    module: Any = types.ModuleType("demucs.model")
    module.Demucs, module.__file__ = Class, __file__

    def save(path: Path, state: State, legacy: bool = True, **kwargs: Any) -> Path:
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "demucs.model", module)
            return saved((Class, (), kwargs, state), path, legacy)

    return save


def a_demucs() -> tuple[Any, State]:
    """Make the authors' package, and its weights as they were called in versions 1 and 2."""
    torch.manual_seed(0)
    model = Demucs(DemucsConfig(channels=4))
    return peer(model), model.state_dict()


V1: dict[str, Any] = {"sources": 4, "audio_channels": 2, "channels": 4, "depth": 6, "rewrite": True, "glu": True}
V1 |= {"upsample": False, "rescale": 0.1, "kernel_size": 8, "stride": 4, "growth": 2.0, "lstm_layers": 2, "context": 3}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("packed", [True, False])
def test_demucs_1_says_what_it_said(
    tmp_path: Path, pickled: Callable[..., Path], legacy: bool, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gzip

    monkeypatch.chdir(tmp_path)  # torch would leave a patch here, where it saw that the class is another now
    package, state = a_demucs()
    path = pickled(tmp_path / "demucs.th", state, legacy, **V1)
    if packed:
        path.with_name("demucs.th.gz").write_bytes(gzip.compress(path.read_bytes(), 1))
        path = path.with_name("demucs.th.gz")
    model = converted(tmp_path, path)
    assert model.sources == ("drums", "bass", "other", "vocals")
    assert model.config == DemucsConfig(channels=4)
    mix = torch.randn(1, 2, 19116)  # at other lengths the package begins its frames elsewhere
    with torch.inference_mode():
        assert (model(mix) - package(mix)).abs().max() < 1e-5
    assert not list(tmp_path.glob("*.patch"))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("changes", "kwargs"),
    [
        ({"lstm_layers": 0}, {"lstm_layers": 0}),
        ({"growth": 1.5, "depth": 3}, {"growth": 1.5, "depth": 3}),
        ({"kernel": 6, "stride": 2, "depth": 3}, {"kernel_size": 6, "stride": 2, "depth": 3}),
        ({"activation": "relu", "decoder_kernel": 1}, {"glu": False, "context": 1}),
        ({"sources": ("a", "b")}, {"sources": ["a", "b"]}),
    ],
)
def test_settings_of_demucs_are_read_from_its_weights(
    tmp_path: Path, pickled: Callable[..., Path], changes: dict[str, Any], kwargs: dict[str, Any]
) -> None:
    config = DemucsConfig(**({"channels": 4} | changes))
    model = converted(tmp_path, pickled(tmp_path / "demucs.th", Demucs(config).state_dict(), **V1 | kwargs))
    assert model.config == config


def test_halves_stay_halves(tmp_path: Path, pickled: Callable[..., Path]) -> None:
    state = {name: value.half() for name, value in Demucs(DemucsConfig(channels=4)).state_dict().items()}
    converted(tmp_path, pickled(tmp_path / "light.th", state, **V1))
    stored = load_file(tmp_path / "converted.safetensors")
    assert stored.keys() == state.keys()
    assert all(value.dtype == torch.float16 and torch.equal(value, state[name]) for name, value in stored.items())


def test_weights_that_share_their_memory(tmp_path: Path) -> None:
    # As those of an LSTM do that was on a GPU: one after the other in one storage.
    state = Demucs(DemucsConfig(channels=4)).state_dict()
    flat, at = torch.cat([value.flatten() for value in state.values()]), 0
    shared = {}
    for name, value in state.items():
        shared[name] = flat[at : at + value.numel()].view(value.shape)
        at += value.numel()
    for legacy in (True, False):
        model = converted(tmp_path, saved(shared, tmp_path / "demucs.th", legacy), force=True)
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    state["encoder.0.2.bias"] = state["encoder.1.0.bias"]
    path = saved(state, tmp_path / "demucs.th")
    with pytest.raises(OutputError, match=r"x.safetensors: cannot be written: Some tensors share memory.*$"):
        convert([path], tmp_path / "x.safetensors")
    assert not (tmp_path / "x.safetensors").exists()


@pytest.mark.filterwarnings("default")
def test_demucs_2_hears_twice_the_rate(tmp_path: Path) -> None:
    package, state = a_demucs()
    model = converted(tmp_path, saved(state, tmp_path / "demucs.th"))
    assert model.sample_rate == 88200
    song = music(87382 / 44100, 44100)  # at other lengths the package begins its frames elsewhere
    ours = Separator(model, device="cpu", precision="float32").separate(ArraySong(song, 44100))
    package.resample = True
    package.valid_length = lambda length: -(-model.valid_length(2 * length) // 2)
    with torch.inference_mode():
        theirs = package(torch.from_numpy(song)[None])[0]
    for name, stem in zip(model.sources, theirs, strict=True):
        error = torch.from_numpy(ours[name]) - stem
        assert 20 * torch.log10(error.norm() / stem.norm()) < -40


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        ({"upsample": True}, "made with upsample = True, which ours does not have"),
        ({"dconv_mode": 1}, "made with dconv_mode = 1"),
        ({"sources": ["a", "b"]}, "these weights separate 4 stems, not a, b"),
        ({"stride": "four"}, "stride = 'four' is not of the kind"),
        ({"samplerate": None}, "made for a rate of None"),
        ({"samplerate": True}, "made for a rate of True"),
        ({"sources": [1, 2]}, "these weights separate 4 stems, not 1, 2"),
        ({"sources": ["a", "b", "c", "../a"]}, r"demucs.th: demucs: a stem cannot be called '../a'"),
        ({"sources": ["a", "b", "c", "mixture"]}, r"demucs.th: demucs: a stem cannot be called 'mixture'"),
        ({"sources": ["a", "b", "c", "two\nlines"]}, r"a stem cannot be called 'two\\nlines'"),
        ({"sources": ["a", "b", "c", "a"]}, "demucs.th: demucs: two stems cannot both be called 'a'"),
    ],
)
def test_a_demucs_that_ours_cannot_be(
    tmp_path: Path, pickled: Callable[..., Path], kwargs: dict[str, Any], said: str
) -> None:
    path = pickled(tmp_path / "demucs.th", Demucs(DemucsConfig(channels=4)).state_dict(), **V1 | kwargs)
    target = tmp_path / "x.safetensors"
    target.write_text("good")
    with pytest.raises((CheckpointError, UsageError), match=said):
        convert([path], target, force=True)
    assert target.read_text() == "good"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demucs.th", "x.safetensors"]


# The Masker and Denoiser.


def test_four_files_of_mss_pytorch_become_one(tmp_path: Path) -> None:
    parts: dict[str, list[tuple[str, nn.Module]]] = {
        "encoder": [("gruEncF", nn.GRUCell(20, 20)), ("gruEncB", nn.GRUCell(20, 20))],
        "decoder": [("gruDec", nn.GRUCell(40, 40))],
        "sp_decoder": [("ffDec", nn.Linear(40, 129))],
        "se": [("ffSe_enc", nn.Linear(129, 9)), ("ffSe_dec", nn.Linear(9, 129))],
    }
    paths: list[Path] = []
    all_: State = {}
    for file, modules in parts.items():
        state = nn.ModuleDict(dict(modules)).state_dict()
        paths.append(saved(state, tmp_path / f"torch_sps_{file}_40_m3_i10.pytorch", legacy=True))
        all_ |= state
    model = converted(tmp_path, *paths)
    assert model.sources == ("vocals", "accompaniment")
    assert (model.config.n_fft, model.config.window, model.config.hop) == (256, 129, 24)
    assert (model.config.bins, model.config.hidden, model.config.residual) == (20, 9, "fed-back")
    names = {"ahead": "gruEncF", "back": "gruEncB", "decoder": "gruDec", "mask": "ffDec"}
    names |= {"denoiser_enc": "ffSe_enc", "denoiser_dec": "ffSe_dec"}
    found = {
        f"{names[layer]}.{name.removesuffix('_l0')}": value
        for layer, name, value in ((*key.split("."), value) for key, value in model.state_dict().items())
    }
    assert found.keys() == all_.keys()
    assert all(torch.equal(found[name], all_[name]) for name in all_)
    with pytest.raises(CheckpointError, match=r"ffSe_enc.weight is missing"):
        convert(paths[:3], tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"gruDec.bias_hh is in two of the files"):
        convert([*paths, paths[1]], tmp_path / "x.safetensors")


# The subband MDenseNet.


class TheirLayer(nn.Module):
    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm2 = nn.BatchNorm2d(inputs)
        self.conv2 = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)


class TheirBlock(nn.Module):
    def __init__(self, inputs: int, growth: int, layers: int) -> None:
        super().__init__()
        sizes = [inputs + i * growth for i in range(layers)]
        self.layers = nn.ModuleDict({f"denselayer{i + 1}": TheirLayer(n, growth) for i, n in enumerate(sizes)})

    def forward(self, x: Tensor) -> Tensor:
        heard = [x]
        for layer in self.layers.values():
            assert isinstance(layer, TheirLayer)
            heard.append(layer.conv2(F.relu(layer.norm2(torch.cat(heard, 1)))))
        return heard[-1]


class TheirUNet(nn.Module):
    """The published net, as far as its weights and the paper tell, at two scales."""

    def __init__(self) -> None:
        super().__init__()
        growth, inputs = (5, 6, 6, 6, 7), (8, 5, 6, 12, 11)
        model: Any = nn.Module()
        model.first_conv = nn.Conv2d(32, 8, 3)
        model.downsample_layers = nn.ModuleList(nn.Sequential(nn.Conv2d(n, n, 1)) for n in (5, 6, 6))
        model.upsample_layers = nn.ModuleList(nn.ConvTranspose2d(n, n, 2, 2) for n in (6, 6))
        model.dense_layers = nn.ModuleList(TheirBlock(n, g, 3) for n, g in zip(inputs, growth, strict=True))
        self.model = model
        self.out = nn.Sequential(TheirBlock(7, 9, 2), nn.Conv2d(9, 32, 1))

    def forward(self, x: Tensor) -> Tensor:
        model, size, skips = self.model, x.shape, []
        x = model.first_conv(x)
        for i in range(2):
            x = model.dense_layers[i](x)
            skips.append(x)
            x = F.max_pool2d(model.downsample_layers[i](x), 2)
        x = model.dense_layers[2](x)
        for i in range(2):
            skip = skips.pop()
            x = model.upsample_layers[i](x)
            x = torch.cat([self.fit(x, skip.shape), skip], 1)
            x = model.dense_layers[3 + i](x)
        return self.out(self.fit(x, size))  # type: ignore[no-any-return]

    def fit(self, x: Tensor, size: torch.Size) -> Tensor:
        return F.pad(x, (size[3] - x.shape[3], 0, size[2] - x.shape[2], 0), mode="replicate")


def test_the_subband_mdensenet_says_what_it_said(tmp_path: Path) -> None:
    nets = nn.ModuleDict({name: TheirUNet() for name in ("unet0", "unet1")})
    randomised(nets)
    state = nets.state_dict()
    assert "unet1.model.dense_layers.4.layers.denselayer3.norm2.running_mean" in state  # as facts have it
    model = converted(tmp_path, saved(state, tmp_path / "mdensenet.pth", legacy=True))
    assert model.sources == ("accompaniment", "vocals")
    assert (model.config.bands, model.config.first, model.config.growth) == (8, 8, (5, 6, 6, 6, 7))
    assert (model.config.layers, model.config.last) == (3, (9, 2))
    x = torch.randn(1, 32, 129, 2 + 8)  # frames that halving leaves nothing of
    with torch.inference_mode():
        for i in range(2):
            torch.testing.assert_close(model.nets[i](x), nets[f"unet{i}"](x), rtol=1e-4, atol=1e-5)
        assert model(torch.randn(1, 2, 3000)).shape == (1, 2, 2, 3000)
    state["unet0.model.downsample_layers.7.0.weight"] = torch.zeros(1)  # the unused one, and no other
    with pytest.raises(CheckpointError, match=r"unet0.model.downsample_layers.7.0.weight is unknown"):
        convert([saved(state, tmp_path / "more.pth")], tmp_path / "x.safetensors")


# Spleeter.


def test_spleeter_says_what_tensorflow_said(tmp_path: Path) -> None:
    model = converted(tmp_path, make_spleeter.FOLDER)
    assert model.sources == ("vocals", "accompaniment")
    assert model.config.widths == make_spleeter.WIDTHS
    answers = torch.from_numpy(np.load(make_spleeter.FOLDER / "answers.npy"))
    heard = torch.from_numpy(make_spleeter.picture()).permute(0, 3, 2, 1)
    with torch.inference_mode():
        for net, answer in zip(model.nets.values(), answers, strict=True):
            said = net(heard).permute(0, 3, 2, 1)[:, ::7, ::5]
            torch.testing.assert_close(said, answer, rtol=1e-4, atol=1e-4)
    assert answers.std() > 0.1
    stems = model.nets["vocals"].state_dict()
    assert torch.equal(converted(tmp_path, make_spleeter.FOLDER / "model.index", sources=["a", "b"], force=True)
                       .nets["a"].state_dict()["mask.weight"], stems["mask.weight"])  # fmt: skip


# What is refused.


class Call:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.called = function, args

    def __reduce__(self) -> Any:
        return self.called


def touch(path: Path) -> tuple[Any, ...]:
    import os

    return os.system, f"touch {path}"


HARMFUL: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "(posix|nt).system": touch,
    r"(\w+\.)?eval": lambda path: (eval, f"open({str(path)!r}, 'w')"),
    r"(\w+\.)?exec": lambda path: (exec, f"open({str(path)!r}, 'w')"),
    r"(\w+\.)?getattr": lambda path: (getattr, path, "touch"),
    "numpy": lambda path: (np.zeros, 3),
    "torch.serialization.load": lambda path: (torch.load, str(path)),
    r"\w+\.Popen": lambda path: (__import__("subprocess").Popen, ["touch", str(path)]),
    "separate.models.build": lambda path: (sys.modules["separate.models"].build, "d2-gru", {}),
}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("name", HARMFUL)
def test_a_pickle_that_names_anything_else_is_refused_and_runs_nothing(tmp_path: Path, name: str, legacy: bool) -> None:
    touched = tmp_path / "touched"
    function, *args = HARMFUL[name](touched)
    nested = {"weights": [{"deep": (Call(function, *args),)}], "encoder.0.0.weight": torch.zeros(3)}
    for content in (Call(function, *args), nested):
        path = saved(content, tmp_path / "demucs.th", legacy)
        with pytest.raises(CheckpointError, match=rf"demucs.th: it names {name}\S*, which is no weight"):
            convert([path], tmp_path / "x.safetensors")
    assert not touched.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demucs.th"]


@pytest.mark.parametrize("code", [b"cos\nsystem\n(S'touch touched'\ntR.", b"cbuiltins\neval\n(S'1'\ntR."])
def test_a_bare_pickle_runs_nothing(tmp_path: Path, code: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare.th").write_bytes(b"\x80\x02" + code)
    with pytest.raises(CheckpointError, match=r"^bare.th: it names (os.system|__builtin__.eval|builtins.eval), which"):
        convert([Path("bare.th")], Path("x.safetensors"))
    assert [file.name for file in tmp_path.iterdir()] == ["bare.th"]


def test_the_class_of_demucs_is_the_only_one_and_is_not_called(tmp_path: Path, pickled: Callable[..., Path]) -> None:
    called: Any = type("HDemucs", (), {"__module__": "demucs.hdemucs"})
    module: Any = types.ModuleType("demucs.hdemucs")
    module.HDemucs = called
    sys.modules["demucs.hdemucs"] = module
    try:
        path = saved({"klass": called, "state": {}}, tmp_path / "0d19c1c6.th")
    finally:
        del sys.modules["demucs.hdemucs"]
    with pytest.raises(CheckpointError, match=r"names demucs.hdemucs.HDemucs, which is no weight"):
        convert([path], tmp_path / "x.safetensors")
    # An object of the class that is known, made with arguments.
    (tmp_path / "made.th").write_bytes(b"\x80\x02cdemucs.model\nDemucs\nK\x01\x85R.")
    with pytest.raises(CheckpointError, match=r"made.th: not a file of weights"):
        convert([tmp_path / "made.th"], tmp_path / "x.safetensors")


def demucs_state(**changes: Any) -> State:
    return Demucs(DemucsConfig(channels=2, **changes)).state_dict()


def lacking(state: State) -> Any:
    return {name: value for name, value in state.items() if not name.startswith("decoder.3")}


def spoilt(state: State) -> Any:
    weight = state["encoder.0.2.weight"].clone()
    weight[0] = torch.nan
    return state | {"encoder.0.2.weight": weight, "lstm.linear.bias": torch.full_like(state["lstm.linear.bias"], 1e999)}


def longer(state: State) -> Any:
    return state | {f"more.{i}": torch.zeros(1) for i in range(2)}


def misshaped(state: State) -> Any:
    return state | {"encoder.2.2.bias": torch.zeros(3), "decoder.0.0.bias": torch.zeros(())}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lacking, r"not a whole demucs: decoder.3.0.weight is missing; .* is missing; .* is missing and 1 more$"),
        (longer, r"not a whole demucs: more.0 is unknown; more.1 is unknown$"),
        (spoilt, r"demucs: encoder.0.2.weight holds NaN or infinity; lstm.linear.bias holds NaN or infinity$"),
        (lambda state: {k: v.half() for k, v in spoilt(state).items()}, r"encoder.0.2.weight holds NaN or infinity"),
        (lambda state: {k: v.bfloat16() for k, v in spoilt(state).items()}, r"0.2.weight holds NaN or infinity"),
        (misshaped, r"encoder.2.2.bias is \(3,\), not \(16,\); decoder.0.0.bias is \(\), not \(128,\)$"),
        (lambda state: state | {"encoder.0.0.weight": torch.zeros(4)}, r"encoder.0.0.weight is \(4,\), which is no"),
        (lambda state: state | {"encoder.0.0.weight": torch.zeros(0, 2, 8)}, r"encoder.0.0.weight is \(0, 2, 8\)"),
        (lambda state: state | {"decoder.5.2.weight": torch.zeros(2, 7, 8)}, r"separate 3 stems, not drums"),
        (lambda state: {k: v.long() if k == "encoder.1.0.bias" else v for k, v in state.items()}, "is of torch.int64"),
        (lambda state: state | {"epoch": 3}, r"'epoch' is no plain weight"),
        (lambda state: state | {5: torch.zeros(1)}, r"5 is no plain weight"),
        (lambda state: state | {"s": torch.zeros(2, 2).to_sparse()}, r"strange.pth: .* weight"),
        (lambda state: {"x": torch.zeros(1)}, r"weights of none of open-unmix, .*: they are called x"),
        (lambda state: {}, r"holds no weights by name, but a dict"),
        (lambda state: [torch.zeros(1)], r"holds no weights by name, but a list"),
        (lambda state: (1, (), {}, state), r"holds no weights by name, but a tuple"),
        (lambda state: "weights", r"holds no weights by name, but a str"),
    ],
)
def test_weights_that_make_no_model(tmp_path: Path, change: Callable[[State], Any], said: str) -> None:
    path = saved(change(demucs_state()), tmp_path / "strange.pth")
    with pytest.raises((CheckpointError, UsageError), match=said) as error:
        convert([path], tmp_path / "x.safetensors")
    assert "\n" not in str(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["strange.pth"]


def test_files_of_another_program_or_of_two_are_no_model(tmp_path: Path) -> None:
    one = saved(umx().state_dict(), tmp_path / "vocals.pth")
    with pytest.raises(CheckpointError, match=r"vocals.pth: these are weights of open-unmix, not of demucs"):
        convert([one], tmp_path / "x.safetensors", format="demucs")
    other = saved(demucs_state(), tmp_path / "demucs.th")
    with pytest.raises(CheckpointError, match=r"demucs.th: these are weights of demucs, not of open-unmix"):
        convert([one, other], tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"weights are in one file, but these are 2"):
        convert([other, other], tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"sources must name at least one, and each once"):
        convert([one, one], tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="unknown format 'hdemucs'"):
        convert([one], tmp_path / "x.safetensors", format="hdemucs")
    with pytest.raises(UsageError, match="these weights separate 1 stems, not a, b"):
        convert([one], tmp_path / "x.safetensors", sources=["a", "b"])


@pytest.mark.parametrize(
    "content", [b"", b"\x1f\x8b", b"\x1f\x8b\x08 and no gzip", b"some text\n", b"PK\x03\x04 no zip"]
)
def test_a_file_that_holds_no_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd.pth: (not a file of weights that torch saved|cannot be read)"):
        convert([path], tmp_path / "x.safetensors")


@pytest.mark.parametrize("legacy", [True, False])
def test_a_damaged_file_is_refused(tmp_path: Path, legacy: bool) -> None:
    whole = saved({"a": torch.arange(100.0)}, tmp_path / "whole.pth", legacy).read_bytes()
    path = tmp_path / "damaged.pth"
    rng = np.random.default_rng(0)
    for attempt in range(60):
        damaged = bytearray(whole)
        if attempt % 2:
            damaged = damaged[: rng.integers(len(damaged))]
        else:
            for at in rng.integers(0, min(len(damaged), 400), 3):
                damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"damaged.pth: "):
            convert([path], tmp_path / "x.safetensors")


def test_places_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    path = saved(demucs_state(), tmp_path / "demucs.th")
    with pytest.raises(CheckpointError, match=r"none.th: cannot be read: No such file"):
        convert([tmp_path / "none.th"], tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match=r"no TensorFlow checkpoint in this folder"):
        convert([tmp_path], tmp_path / "x.safetensors")
    with pytest.raises(OutputError, match=r"no/x.safetensors: cannot be written: No such file"):
        convert([path], tmp_path / "no" / "x.safetensors")
    target = tmp_path / "x.safetensors"
    target.write_text("mine")
    with pytest.raises(OutputExists, match=r"x.safetensors: exists already; .* --force"):
        convert([path], target)
    assert target.read_text() == "mine"
    convert([path], target, force=True)
    assert read_header(target).architecture == "demucs"


def test_every_format_is_an_architecture() -> None:
    assert FORMATS.keys() <= MODELS.keys()
    assert all(re.compile(mark) for mark, _ in FORMATS.values())


def test_published_sizes_are_found(tmp_path: Path) -> None:
    # Without their numbers: a tensor of one zero, that many times, takes no space.
    with torch.device("meta"):
        shapes = {
            name: value.shape for name, value in Demucs(DemucsConfig(**DEMUCS["demucs-100"])).state_dict().items()
        }
    from separate.checkpoints.convert import fitted
    from separate.checkpoints.foreign import Foreign
    from separate.checkpoints.formats import demucs

    state = {name: torch.zeros(()).expand(shape) for name, shape in shapes.items()}
    model = fitted("demucs", demucs([Foreign(tmp_path, state, V1 | {"channels": 100})], None))
    assert sum(parameter.numel() for parameter in model.parameters()) == 648_548_208
