"""A model is about as large as the files that its weights are in: settings that say otherwise are stopped early."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_ident
from typing import Any

from torch import Tensor
from torch.nn.modules import module

from separate.errors import CheckpointError

__all__ = ["bounded"]

GROWTH = 32  # times as large in memory as in a file: weights may be packed to two bits
SPARE = 2**26  # bytes, for windows and other tables that no file has
LEAST = 2**13  # bytes that a tensor takes, however small it is


@contextmanager
def bounded(path: object, parts: Sequence[Path]) -> Iterator[None]:
    """Have a model built of what a header says, and refuse one that its weights in `parts` could not fill.

    Tensors are counted when a module gets them, before anything is written into them: until then they take no memory.
    """
    try:
        left = SPARE + GROWTH * sum(part.stat().st_size for part in parts)
    except OSError as error:
        raise CheckpointError(f"{path}: its weights cannot be read: {error.strerror}") from error
    thread = get_ident()  # others may build something else meanwhile

    def count(owner: Any, name: str, tensor: Tensor | None) -> None:
        nonlocal left
        if tensor is not None and get_ident() == thread:
            left -= max(tensor.nbytes, LEAST)
            if left < 0:
                raise CheckpointError(f"{path}: its settings ask for a model far larger than its weights are")

    with ExitStack() as stack:
        stack.enter_context(module.register_module_parameter_registration_hook(count))
        stack.enter_context(module.register_module_buffer_registration_hook(count))
        try:
            yield
        except CheckpointError:
            raise
        except Exception as error:  # torch, given sizes that make no sense, may say anything
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(f"{path}: no model can be made with its settings: {reason}") from error
