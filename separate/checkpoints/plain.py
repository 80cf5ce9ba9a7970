"""YAML, as far as it is plain values.

PyYAML's careful loader makes no objects. But a few lines in which parts are repeated by name (`&a`, `*a`, `<<`) can
stand for more than any memory holds, so whoever repeats is refused; no settings of a model need it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

__all__ = ["LARGEST", "plain_yaml"]

LARGEST = 2**63  # what is no number of a setting; Python does not even print those of thousands of digits


def plain_yaml(text: str) -> Any:
    """Read a document; a ValueError says in one line what is wrong with it."""
    import yaml  # type: ignore[import-untyped]

    try:
        return yaml.load(text, _loader())
    except Exception as error:  # of a damaged document PyYAML raises anything, as KeyError for `!!bool x`
        raise ValueError(" ".join(str(error).split())) from error


@cache
def _loader() -> Any:
    """Make the loader here: nothing but these files needs PyYAML."""
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("parts of it are repeated by name")
            return super().compose_node(parent, index)

        def construct_yaml_int(self, node: Any) -> Any:
            value = super().construct_yaml_int(node)
            if not -LARGEST < value < LARGEST:
                raise ValueError("one of its numbers is too large")
            return value

    Plain.add_constructor("tag:yaml.org,2002:int", Plain.construct_yaml_int)
    # The tuples of Python are the lists that they are.
    Plain.add_constructor("tag:yaml.org,2002:python/tuple", Plain.construct_yaml_seq)
    return Plain
