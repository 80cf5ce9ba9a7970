"""Where a model runs, and in which precision."""

from __future__ import annotations

import torch

from separate.errors import DeviceUnavailable, UsageError

__all__ = ["PRECISIONS", "choose_device", "choose_dtype", "worthwhile"]

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str) -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:N" or "mps" into a device that is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise DeviceUnavailable(f"unknown device {name!r}: choose auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and not torch.cuda.is_available():
        raise DeviceUnavailable(f"no device {name!r}: torch finds no NVIDIA GPU here; use --device cpu or auto")
    if index and int(index) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"no device {name!r}: this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if kind == "mps" and not torch.mps.is_available():
        raise DeviceUnavailable(f"no device {name!r}: this is no Apple GPU; use --device cpu or auto")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Turn "auto", "float32", "bfloat16" or "float16" into the precision of a model's inner layers."""
    if name == "auto":
        return worthwhile(torch.bfloat16, device)
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: choose auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[name]


def worthwhile(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """Prefer float32 to bfloat16 on a device that has to imitate it, which takes ten times as long."""
    return torch.float32 if dtype == torch.bfloat16 and not multiplies_bfloat16(device) else dtype


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has instructions for products in bfloat16; without them it is slower than float32."""
    if device.type == "cpu":
        known = torch.cpu.get_capabilities()
        return bool(known.get("avx512_bf16") or known.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported()
