"""The rules of the house (docs/design.md): who imports whom, what does without torch, and that no file is trusted."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import separate

ROOT = Path(separate.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# Whoever is on one row imports from the rows above it and from itself, but not from its neighbours.
ROWS = """
errors
dsp audio stream device
models metrics part datasets player
checkpoints
separator training
batch evaluation
cli
__init__ __main__
"""
ROW = {part: number for number, row in enumerate(ROWS.split("\n")) for part in row.split()}


def imported(tree: ast.AST, module: str) -> Iterator[tuple[int, str]]:
    """Yield (line, full name) of all that a file imports: in functions and for the type checker too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # What the face of the package offers counts as what is behind it.
            names = [separate._HOMES.get(alias.name, f"separate.{alias.name}") for alias in node.names]
            yield from ((node.lineno, name) for name in (names if base == "separate" else [base]))


def wrong_imports(source: str, module: str) -> list[str]:
    """Name the imports of a file that run up or sideways."""
    part = module.split(".")[1]
    if part not in ROW:
        return [f"{module}: {part} has no place in ROWS"]
    wrong = []
    for line, name in imported(ast.parse(source), module):
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package != "separate" or other in (part, "__version__"):
            continue
        if other not in ROW:
            wrong.append(f"{module}, line {line}: {name} has no place in ROWS")
        elif ROW[other] >= ROW[part]:
            direction = "sideways" if ROW[other] == ROW[part] else "up"
            wrong.append(f"{module}, line {line}: imports {name}; that runs {direction} from {part} to {other}")
    return wrong


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_imports_run_one_way(path: Path) -> None:
    wrong = wrong_imports(path.read_text("utf-8"), module_of(path))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("separate.dsp.stft", "from separate.models import build", "up from dsp to models"),
        ("separate.dsp.stft", "def f():\n    import separate.cli.run", "line 2: imports separate.cli.run"),
        ("separate.dsp.stft", "if TYPE_CHECKING:\n    from separate.audio.reader import AudioReader", "sideways"),
        ("separate.audio.reader", "from separate import Separator", "up from audio to separator"),
        ("separate.audio.reader", "from ..batch import plan", "up from audio to batch"),
        ("separate.errors", "from separate.device import choose_device", "up from errors to device"),
        ("separate.helpers", "", "helpers has no place in ROWS"),
        ("separate.cli.run", "import separate.helpers", "separate.helpers has no place in ROWS"),
    ],
)
def test_a_wrong_import_is_named(module: str, source: str, complaint: str) -> None:
    (message,) = wrong_imports(source, module)
    assert message.startswith(module)
    assert complaint in message


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("separate.models.d2gru", "from separate.dsp.stft import STFT\nfrom separate.models.layers import Bands"),
        ("separate.cli.run", "from separate import __version__\nimport separate.errors"),
        ("separate.audio.reader", "from . import formats\nfrom .formats import Bits\nimport numpy"),
    ],
)
def test_a_right_import_is_not(module: str, source: str) -> None:
    assert wrong_imports(source, module) == []


TORCHLESS = [
    "import separate",
    "import separate.errors",
    "import separate.cli",
    "import separate.audio.formats",
    "import separate.batch.plan",
    "from separate.checkpoints.registry import registry; registry()",
    "from separate.checkpoints.weights import read_header",
    "import sys; sys.argv[1:] = ['--help']; from separate.cli import main; main()",
    "import sys; sys.argv[1:] = ['--version']; from separate.cli import main; main()",
    "import sys; sys.argv[1:] = ['models']; from separate.cli import main; main()",
    "import sys; sys.argv[1:] = ['convert', '--help']; from separate.cli import main; main()",
    "import separate.cli.convert",
    "import separate.player.files",
]


def heavy_after(code: str) -> str:
    """Run code in a Python of its own and return which of the slow packages it imported."""
    ask = "import sys, atexit; atexit.register(lambda: print([m for m in ('torch', 'torchaudio') if m in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", f"{ask}\n{code}"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("code", TORCHLESS)
def test_does_without_torch(code: str) -> None:
    assert heavy_after(code) == "[]"


def test_the_separator_does_need_torch() -> None:
    assert heavy_after("from separate import Separator") != "[]"


PICKLES = ("pickle", "marshal", "shelve", "dill", "joblib")
# The one file that may: its reader of old checkpoints is Python's own, with a find_class that knows tensors only.
UNPICKLER = "separate.checkpoints.legacy"


def trusting(source: str, module: str) -> list[str]:
    """Name what runs code out of data: pickles, eval, exec, and torch.load but for weights_only=True."""
    tree = ast.parse(source)
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    errors = {node.lineno for node in froms if ast.unparse(node) == "from pickle import UnpicklingError"}
    pickles = PICKLES[1:] if module == UNPICKLER else PICKLES
    found = [f"{module}, line {n}: {name}" for n, name in imported(tree, module) if name in pickles and n not in errors]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node)
            unsafe = call.startswith("torch.load(") and "weights_only=True" not in call
            if unsafe or call.startswith(("eval(", "exec(", "pickle.load", "pickle.Unpickler(")):
                found.append(f"{module}, line {node.lineno}: {call}")
    return found


def test_nothing_is_unpickled_or_executed() -> None:
    assert not [line for path in FILES for line in trusting(path.read_text("utf-8"), module_of(path))]


@pytest.mark.parametrize("source", ["import pickle", "from dill import loads", "eval(x)", "torch.load(path)"])
def test_what_trusts_a_file_is_named(source: str) -> None:
    (message,) = trusting(source, "separate.cli.run")
    assert message.startswith("separate.cli.run, line 1: ")


def test_the_reader_of_old_checkpoints_has_no_other_way_in() -> None:
    assert trusting("import pickle\nclass Unpickler(pickle.Unpickler): ...", UNPICKLER) == []
    for call in ("pickle.load(file)", "pickle.loads(data)", "pickle.Unpickler(file)"):
        (message,) = trusting(f"import pickle\n{call}", UNPICKLER)
        assert message == f"{UNPICKLER}, line 2: {call}"


def test_modules_are_imported_by_name_in_two_files_only() -> None:
    # Both look the name up in a table of their own: no file or option can name a module.
    found = {module_of(path) for path in FILES if "import_module" in path.read_text("utf-8")}
    assert found == {"separate.__init__", "separate.models.__init__"}


def test_no_file_is_a_drawer_for_odds_and_ends() -> None:
    assert not [str(path) for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]
