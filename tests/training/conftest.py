"""What the tests of training share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.corpora import write_corpus


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus that the tests made themselves."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))
