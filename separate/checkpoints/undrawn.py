"""A model to be filled with weights does not have to draw any first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["Undrawn"]


class Undrawn(TorchFunctionMode):
    """While it is entered, weights that layers would draw at random take neither time nor memory.

    They are on torch's "meta" device until `load_state_dict(…, assign=True)` puts others in their place.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Leave out the memory of tensors that are made without values."""
        if func is nn.init.normal_:  # on "meta" that is a program in Python, behind a second of torch's compiler
            return (kwargs or {})["tensor"]
        where = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **{**(kwargs or {}), **where})
