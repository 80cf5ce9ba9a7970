"""The command line: `separate INPUT...` and its subcommands, one file each. They import the library when they run."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from separate.cli.convert import convert_command
from separate.cli.evaluate import evaluate_command
from separate.cli.models import models_app
from separate.cli.player import player_command
from separate.cli.process import hush, interruptible, open_streams
from separate.cli.publish import publish_command
from separate.cli.run import run_command
from separate.cli.text import one_line
from separate.cli.train import train_command
from separate.cli.watch import watch_command
from separate.errors import SeparateError

__all__ = ["app", "main", "process"]

DEFAULT = "separate-songs"  # how the default command is called inside; nobody types it
EPILOG = """Other commands: [bold]separate models[/bold], [bold]separate models show NAME[/bold], \
[bold]separate watch[/bold], [bold]separate player[/bold], [bold]separate evaluate[/bold], \
[bold]separate train[/bold], [bold]separate convert[/bold], [bold]separate publish[/bold].

Exit codes: 0 all done, 1 a song or its stems failed, 2 wrong usage, 3 checkpoint trouble, 130 interrupted."""
GROUP_OPTIONS = ("--install-completion", "--show-completion")


class Commands(TyperGroup):
    """A group whose first word may be a song: then it is the default command's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the default command's name before arguments that name no other command."""
        if not args and not ctx.resilient_parsing:
            args = ["--help"]
        if args and args[0] not in self.commands and not args[0].startswith(GROUP_OPTIONS):
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        """Complete the first word as a command, or as an option or a file of the default command."""
        return super().shell_complete(ctx, incomplete) + self.commands[DEFAULT].shell_complete(ctx, incomplete)


class Command(TyperCommand):
    """A command that may take long."""

    def invoke(self, ctx: Any) -> Any:
        """Leave at once when the user says so, or when whoever reads our output has gone."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            # Threads may be deep in a model, but nothing half-written is left: there is nothing to wait for.
            with contextlib.suppress(OSError):  # the terminal may be gone
                print("\nseparate: interrupted; what was not complete has been removed", file=sys.stderr, flush=True)
            os._exit(130)
        except BrokenPipeError:
            os._exit(141)  # what shells report for it


class Default(Command):
    """The command that has no name."""

    def invoke(self, ctx: Any) -> Any:
        """Leave as after Ctrl-C when asked to end, from the first moment on."""
        with interruptible():
            return super().invoke(ctx)

    def get_usage(self, ctx: Any) -> str:
        """Show how it is really called."""
        return "Usage: separate INPUT... [OPTIONS]"


app = typer.Typer(cls=Commands, rich_markup_mode="rich", pretty_exceptions_enable=False)
app.command(DEFAULT, cls=Default, hidden=True, epilog=EPILOG)(run_command)
app.command("evaluate", cls=Command, context_settings={"allow_extra_args": True})(evaluate_command)
app.add_typer(models_app, name="models")
app.command("train")(train_command)
app.command("watch", cls=Command)(watch_command)
app.command("player", cls=Command)(player_command)
app.command("convert", cls=Command)(convert_command)
app.command("publish", cls=Command)(publish_command)


def process() -> None:
    """Run the command line as a process of its own, which ends without being taken apart.

    Python, torch and the libraries of cards take about a second to free what the system frees anyway.
    """
    try:
        main()
    except SystemExit as leaving:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):  # Python itself has words and a code for it
                raise leaving from None
        os._exit(leaving.code if isinstance(leaving.code, int) else 0)


def main() -> None:
    """Run the command line and leave with its exit code."""
    hush()
    open_streams()
    try:
        code = app(standalone_mode=False)
    except SeparateError as error:
        fail(str(error), error.exit_code)
    except (MemoryError, RuntimeError) as error:  # Python's own words, and torch's
        if not isinstance(error, MemoryError) and "memory" not in str(error):
            raise
        fail("out of memory: free some, or try fewer --jobs", 1)
    except OSError as error:  # those of files are ours before they come here
        if error.filename:
            fail(f"{error.filename}: {error.strerror}", 1)
        if isinstance(error, FileNotFoundError):  # nothing else is looked for without a name
            fail("the current folder is there no more: go to another", 1)
        with contextlib.suppress(OSError):
            sys.stdout.close()  # or Python would try again
        fail(f"standard output: {error.strerror or error}", 1)
    except Exception as error:
        # Typer carries a command-line parser under a name of its own in each version: known by what its errors can do.
        if not hasattr(error, "format_message"):
            raise
        fail(f"{error.format_message()} See `separate --help`.", getattr(error, "exit_code", 2))
    sys.exit(code if isinstance(code, int) else 0)


def fail(message: str, code: int) -> None:
    """Say in one line what is wrong, and leave."""
    print(f"separate: {one_line(message)}", file=sys.stderr)
    sys.exit(code)
