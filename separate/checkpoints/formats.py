"""Formats of other programs: by what their weights are known, and what in them is which weight of ours.

Of a program's files, names and tensors, a function makes a Plan: the settings of our architecture, read off the shapes
of the weights, and what our weights are called there. FORMATS lists them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from separate.checkpoints.foreign import Foreign, Weights
from separate.checkpoints.plan import Plan, check_stems, count, only, size
from separate.checkpoints.roformers import MARK, roformer
from separate.dsp.filterbank import ANGLES, FilterBank
from separate.errors import CheckpointError
from separate.models.spleeter import PRESETS as SPLEETER

__all__ = ["FORMATS"]


def renamed(name: str, table: Mapping[str, str]) -> str:
    """Replace what each expression of the table finds, from the first to the last."""
    for ours, theirs in table.items():
        name = re.sub(ours, theirs, name)
    return name


def open_unmix(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for a file a stem, whose name begins with the stem's: vocals-b62c91ce.pth."""
    stems = sources or [file.path.name.partition(".")[0].partition("-")[0] for file in files]
    check_stems(stems, len(files))
    weights = {
        f"{s}.{name}": value for s, file in zip(stems, files, strict=True) for name, value in file.weights.items()
    }
    first = f"{stems[0]}."
    total = size(weights, f"{first}output_mean", 0)
    usual = ("vocals", "drums", "bass", "other")
    config = {
        "sources": sorted(stems, key=usual.index) if not sources and set(stems) <= set(usual) else stems,
        "n_fft": 2 * (total - 1),
        "hop": (total - 1) // 2,
        "bins": size(weights, f"{first}input_mean", 0),
        "hidden": size(weights, f"{first}bn1.weight", 0),
        "layers": count(weights, rf"{re.escape(first)}lstm\.weight_ih_l\d+"),
        "bidirectional": f"{first}lstm.weight_ih_l0_reverse" in weights,
    }
    # The first versions kept their window and their rate among the weights.
    spare = r"\.(sample_rate|stft\.window|transform\.0\.window)$"
    return Plan(config, weights, lambda name: name.removeprefix("nets."), spare)


def demucs(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for version 1, which says its settings, or version 2: weights alone, of a net that hears 88.2 kHz."""
    file = only(files)
    weights, settings = file.weights, file.settings
    known = {"sources", "audio_channels", "channels", "depth", "rewrite", "glu", "upsample", "rescale", "kernel_size"}
    known |= {"stride", "growth", "lstm_layers", "context", "resample", "normalize", "samplerate", "segment_length"}
    for name, value in settings.items():
        if name not in known or (name == "upsample" and value):
            raise CheckpointError(f"this Demucs was made with {name} = {value!r}, which ours does not have")
    channels = size(weights, "encoder.0.0.weight", 0)
    depth = count(weights, r"encoder\.\d+\.0\.weight")
    rewrite = "encoder.0.2.weight" in weights
    stems = size(weights, f"decoder.{depth - 1}.2.weight", 1) // 2
    usual = ["drums", "bass", "other", "vocals"]
    said, rate = settings.get("sources"), settings.get("samplerate", 44100)  # version 1 says how many stems
    if type(rate) is not int:  # True is an int, too
        raise CheckpointError(f"this Demucs was made for a rate of {rate!r}, which is none")
    named = sources or (list(said) if isinstance(said, list | tuple) else usual)
    check_stems(named, stems)
    config = {
        "sources": named,
        # Version 2 doubles the rate of what comes in and halves that of what goes out.
        "sample_rate": rate * (2 if settings.get("resample", not settings) else 1),
        "channels": channels,
        "growth": settings.get("growth", size(weights, "encoder.1.0.weight", 0) / channels if depth > 1 else 2.0),
        "depth": depth,
        "kernel": size(weights, "encoder.0.0.weight", 2),
        "stride": settings.get("stride", 4),
        "rewrite": rewrite,
        "decoder_kernel": size(weights, "decoder.0.0.weight", 2),
        "activation": "relu" if rewrite and size(weights, "encoder.0.2.weight", 0) == channels else "glu",
        "lstm_layers": count(weights, r"lstm\.lstm\.weight_ih_l\d+"),
    }
    return Plan(config, weights, lambda name: name)


def mad(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for four files: encoder, decoder, masker and denoiser."""
    weights: Weights = {}
    for file in files:
        if twice := sorted(weights.keys() & file.weights):
            raise CheckpointError(f"{twice[0]} is in two of the files")
        weights |= file.weights
    total = size(weights, "ffDec.weight", 0)
    n_fft = 2 * (total - 1)
    config = {
        "sources": sources or ["vocals", "accompaniment"],
        "n_fft": n_fft,
        "window": total,
        "hop": 3 * n_fft // 32,
        "bins": size(weights, "gruEncF.weight_ih", 1),
        "hidden": size(weights, "ffSe_enc.weight", 0),
    }
    table = {"^ahead": "gruEncF", "^back": "gruEncB", "^decoder": "gruDec", "_l0$": ""}
    table |= {"^mask": "ffDec", "^denoiser": "ffSe"}
    return Plan(config, weights, lambda name: renamed(name, table))


def mdensenet(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for one file with two nets, the accompaniment's and the voice's.

    Their filter bank is not in it: ours takes its place.
    """
    weights = only(files).weights
    blocks = count(weights, r"unet0\.model\.dense_layers\.\d+\.layers\.denselayer1\.conv2\.weight")
    layer = "unet0.{}.layers.denselayer1.conv2.weight"
    bands = size(weights, "unet0.model.first_conv.weight", 1) // 4
    if bands not in (1, *ANGLES):
        raise CheckpointError(f"it hears {bands} subbands, for which there is no filter bank")
    config = {
        "sources": sources or ["accompaniment", "vocals"],
        "bands": bands,
        "first": size(weights, "unet0.model.first_conv.weight", 0),
        "growth": [size(weights, layer.format(f"model.dense_layers.{i}"), 0) for i in range(blocks)],
        "layers": count(weights, r"unet0\.model\.dense_layers\.0\.layers\.denselayer\d+\.conv2\.weight"),
        "last": [
            size(weights, layer.format("out.0"), 0),
            count(weights, r"unet0\.out\.0\.layers\.denselayer\d+\.conv2\.weight"),
        ],
    }
    table = {
        r"^nets\.": "unet",
        r"\.last\.": ".out.",
        r"\.net\.first": ".model.first_conv",
        r"\.net\.down\.(\d+)": r".model.downsample_layers.\1.0",
        r"\.net\.up": ".model.upsample_layers",
        r"\.net\.blocks": ".model.dense_layers",
        r"\.(norm|conv)\.": r".\g<1>2.",
    }

    def theirs(name: str) -> str:
        name = renamed(name, table)
        return re.sub(r"(?<=\.layers\.)\d+", lambda found: f"denselayer{int(found[0]) + 1}", name)

    unused = rf"^unet\d\.model\.downsample_layers\.{blocks // 2}\."  # one at the bottom
    bank = FilterBank(bands).state_dict()
    return Plan(config, weights, theirs, unused, {f"bank.{name}": value for name, value in bank.items()})


def spleeter(files: Sequence[Foreign], sources: list[str] | None) -> Plan:
    """Plan for a TensorFlow checkpoint: its layers are numbered through all nets, conv2d, conv2d_1, and so on."""
    weights = {
        name: value.permute(3, 2, 1, 0) if value.ndim == 4 else value for name, value in only(files).weights.items()
    }
    up = count(weights, r"conv2d_transpose(_\d+)?/kernel")
    nets = count(weights, r"conv2d(_\d+)?/kernel") - up  # each has one convolution more down, and the mask, than up
    steps = up // nets if nets > 0 else 0
    if f"{nets}stems" not in SPLEETER:
        raise CheckpointError(f"it holds {nets} nets, but the published ones are of 2, 4 or 5")
    preset = SPLEETER[f"{nets}stems"]
    stems = sources or list(preset.get("sources", ("vocals", "accompaniment")))
    check_stems(stems, nets)
    down = [layer("conv2d", i) for i in range(steps)]
    config = preset | {"sources": stems, "widths": [size(weights, f"{name}/kernel", 0) for name in down]}
    # The layers of a net: what they are called, how many a net has, and where these begin.
    kinds = {
        "down": ("conv2d", steps + 1, 0),
        "mask": ("conv2d", steps + 1, steps),
        "up": ("conv2d_transpose", steps, 0),
        "down_norm": ("batch_normalization", 2 * steps, 0),
        "up_norm": ("batch_normalization", 2 * steps, steps),
    }
    norm = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}

    def theirs(name: str) -> str:
        _, stem, kind, *number, leaf = name.split(".")
        called, each, begin = kinds[kind]
        where = stems.index(stem) * each + begin + int(*number)
        leaves = norm if "norm" in kind else {"weight": "kernel"}
        return f"{layer(called, where)}/{leaves.get(leaf, leaf)}"

    unheard = "|".join(layer("batch_normalization", net * 2 * steps + steps - 1) for net in range(nets))
    return Plan(config, weights, theirs, rf"^({unheard})/|^global_step$|^beta\d_power$|/Adam(_\d+)?$")


def layer(kind: str, number: int) -> str:
    """Say what Keras calls the layer of that number."""
    return f"{kind}_{number}" if number else kind


# architecture -> by which weight's name a format is known, and what makes a plan of it
FORMATS: dict[str, tuple[str, Callable[[Sequence[Foreign], list[str] | None], Plan]]] = {
    "open-unmix": (r"^output_scale$", open_unmix),
    "demucs": (r"^encoder\.0\.0\.weight$", demucs),
    "mad": (r"^(gruEnc[FB]|gruDec|ffDec|ffSe_enc|ffSe_dec)\.", mad),
    "cws-mdensenet": (r"^unet0\.model\.first_conv\.", mdensenet),
    "spleeter": (r"^conv2d/kernel$", spleeter),
    "roformer": (MARK, roformer),
}
