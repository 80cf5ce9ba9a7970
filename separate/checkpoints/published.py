"""Checkpoints as the package `demucs` publishes them, from 4.1 on: read as they are, and nothing in them is executed.

    955717e8.safetensors    one model: weights, and in the header's metadata, as JSON,
                                klass    demucs.htdemucs.HTDemucs: looked up in CLASSES, never imported
                                args     [["drums", "bass", "other", "vocals"]]
                                kwargs   {"channels": 48, "segment": {"_type": "fraction", "numerator": 39, ...}, ...}
                                structure    only if the weights are quantised: see `quantized`
    htdemucs_ft.yaml        a bag: `models`, the names of such files beside it; `weights`, a row a model and a number a
                            stem; `segment`, seconds of a chunk

Settings that change what a model says, to something that ours does not have, are refused by name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from separate.checkpoints.header import Header, read_metadata
from separate.checkpoints.plain import plain_yaml
from separate.errors import CheckpointError

__all__ = ["read_bag", "read_published"]

YAML_LIMIT = 2**16  # bytes; real bags are under 300
SIDES = ("none", "encoder", "decoder", "both")


@dataclass(frozen=True)
class Class:
    """How a class of theirs becomes an architecture of ours."""

    architecture: str
    defaults: dict[str, Any]  # theirs, of the settings that count
    names: dict[str, str]  # their name of a setting -> ours, where the value stays
    only: dict[str, tuple[Any, ...]]  # settings that ours knows in one way alone


_SAME = "channels growth depth stride rewrite norm_starts norm_groups dconv_depth dconv_lstm"
_NAMES = {name: name for name in _SAME.split()} | {"samplerate": "sample_rate", "kernel_size": "kernel"}
_NAMES |= {"segment": "segment", "dconv_comp": "dconv_compress", "dconv_attn": "dconv_attention"}
_NAMES_HYBRID = _NAMES | {"nfft": "n_fft", "freq_emb": "embedding", "emb_scale": "embedding_scale"}
_NAMES_HYBRID |= {"time_stride": "time_stride"}
_ONLY: dict[str, tuple[Any, ...]] = {"audio_channels": (2,)}
_ONLY_HYBRID = _ONLY | {"cac": (True,), "multi_freqs": (None, []), "channels_time": (None,)}
_DEFAULTS = {"samplerate": 44100, "segment": 40, "dconv_mode": 1, "context": 1}

CLASSES = {
    "demucs.demucs.Demucs": Class(
        "wdemucs",
        _DEFAULTS,
        _NAMES | {name: name for name in ("lstm_layers", "gelu", "glu", "normalize", "resample")},
        _ONLY,
    ),
    "demucs.hdemucs.HDemucs": Class(
        "hdemucs",
        _DEFAULTS | {"context_enc": 0, "hybrid_old": False},
        _NAMES_HYBRID,
        _ONLY_HYBRID | {"hybrid": (True,)},
    ),
    "demucs.htdemucs.HTDemucs": Class(
        "htdemucs",
        _DEFAULTS | {"context_enc": 0, "segment": 10, "bottom_channels": 0},
        _NAMES_HYBRID
        | {"bottom_channels": "bottom", "t_layers": "layers", "t_heads": "heads", "t_hidden_scale": "hidden"}
        | {"t_cross_first": "cross_first", "t_weight_pos_embed": "position", "t_max_period": "max_period"},
        _ONLY_HYBRID
        | {"t_emb": ("sin",), "t_norm_in": (True,), "t_group_norm": (False, 0), "t_norm_first": (True,)}
        | {"t_norm_out": (True, 1), "t_layer_scale": (True,), "t_gelu": (True,), "use_train_segment": (True,)}
        | {"t_sparse_self_attn": (False,), "t_sparse_cross_attn": (False,)},
    ),
}


def read_published(path: Path, metadata: Mapping[str, str]) -> Header:
    """Turn the metadata of a published model into a header."""
    try:
        known = CLASSES.get(metadata["klass"])
        if known is None:
            raise CheckpointError(
                f"{path}: a model of class {metadata['klass']!r}: this version knows {', '.join(CLASSES)}"
            )
        if "structure" in metadata and known.architecture == "htdemucs":
            raise CheckpointError(f"{path}: its weights are quantised, which this version reads of version 3 alone")
        sources, *more = json.loads(metadata["args"]) or [None]
        settings = json.loads(metadata["kwargs"], object_hook=fraction)
        sources = settings.pop("sources", sources)
        if more or not isinstance(sources, list) or not all(isinstance(name, str) for name in sources):
            raise CheckpointError(f"{path}: its arguments {metadata['args']} are not the names of stems alone")
        config = {"sources": sources} | config_of(path, known, settings)
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path}: not a published model: its header is damaged or lacks {error}") from error
    return header_of(known.architecture, config, (path,))


def config_of(path: Path, known: Class, settings: dict[str, Any]) -> dict[str, Any]:
    """Translate their settings; those that matter in training alone, or to no class of theirs, are left out."""
    for name, values in known.only.items():
        if name in settings and settings[name] not in values:
            raise CheckpointError(f"{path}: a model with {name} = {settings[name]!r}, which ours does not have")
    settings = known.defaults | settings
    config = {ours: settings[theirs] for theirs, ours in known.names.items() if settings.get(theirs) is not None}
    config["segment"] = float(config["segment"])
    config["dconv"] = SIDES[settings["dconv_mode"] & 3]
    config["decoder_kernel"] = 2 * settings["context"] + 1
    if "context_enc" in known.defaults:
        config["encoder_kernel"] = 2 * settings["context_enc"] + 1
    if settings.get("hybrid_old"):
        config["edges"] = "silence"
    if "freq_emb" in settings and not settings["freq_emb"]:
        config["embedding"] = 0.0
    return config


def fraction(value: dict[str, Any]) -> Any:
    """Read a fraction where JSON has one."""
    if value.get("_type") == "fraction":
        return float(Fraction(value["numerator"], value["denominator"]))
    return value


def read_bag(path: Path) -> Header:
    """Turn a bag, and the headers of the models that it names, into a header."""
    bag = bag_of(path)
    parts = {name: path.with_name(f"{name}.safetensors") for name in bag["models"]}
    if missing := [part.name for part in parts.values() if not part.is_file()]:
        raise CheckpointError(f"{path}: a bag of models of which {missing[0]} is missing: it must lie beside it")
    headers = {name: read_published(part, read_metadata(part)) for name, part in parts.items()}
    first = headers[bag["models"][0]]
    for name, header in headers.items():
        if (header.sources, header.sample_rate) != (first.sources, first.sample_rate):
            raise CheckpointError(f"{parts[name]}: other stems, or another rate, than others of the bag {path.name}")
        own = header.config["segment"]
        if bag["segment"] and (header.architecture != "htdemucs" or bag["segment"] <= own):  # whose place is limited
            header.config["segment"] = bag["segment"]
    if len(headers) == 1:
        return first
    weights = {name: [0.0] * len(first.sources) for name in headers}
    rows = bag["weights"] or [[1.0] * len(first.sources)] * len(bag["models"])
    for name, row in zip(bag["models"], rows, strict=True):
        if len(row) != len(first.sources):
            raise CheckpointError(f"{path}: its weights are not one for each of {', '.join(first.sources)}")
        weights[name] = [a + b for a, b in zip(weights[name], row, strict=True)]  # a model may be in it twice
    config = {
        "sources": first.config["sources"],
        "sample_rate": first.sample_rate,
        "segment": min(header.config["segment"] for header in headers.values()),
        "models": [
            {"architecture": header.architecture, "config": header.config, "weights": weights[name]}
            for name, header in headers.items()
        ],
    }
    return header_of("bag", config, tuple(parts.values()))


def bag_of(path: Path) -> dict[str, Any]:
    """Read the file of a bag: `models`, `weights` and `segment`."""
    try:
        if path.stat().st_size > YAML_LIMIT:
            raise ValueError("it is too long")
        bag: dict[str, Any] = {"weights": None, "segment": None} | plain_yaml(path.read_text("utf-8"))
        models, weights = bag["models"], bag["weights"]
        if not models or not all(re.fullmatch(r"[\w-]+", name) for name in models):
            raise ValueError(f"{models!r} are no names of models")
        if weights is not None and len(weights) != len(models):
            raise ValueError(f"{len(weights)} rows of weights for {len(models)} models")
        bag["weights"] = weights and [[float(weight) for weight in row] for row in weights]
        bag["segment"] = bag["segment"] and float(bag["segment"])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a bag of models, or a damaged one: {reason}") from error
    return bag


def header_of(architecture: str, config: dict[str, Any], parts: tuple[Path, ...]) -> Header:
    """Make a header; what a model may be used for is not in its file."""
    return Header(
        architecture=architecture,
        config=config,
        sources=tuple(config["sources"]),
        sample_rate=config["sample_rate"],
        licence="unknown",
        training={"published in": [part.name for part in parts]},
        parts=parts,
    )
