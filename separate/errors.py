"""Every error that separate raises on purpose.

SeparateError                      exit code of the command line
├── InputError                     1   a song cannot be read
├── OutputError                    1   a stem cannot be written
│   └── OutputExists               1   ... because something is there already
├── DependencyError                1   a package that this song needs is missing or does not match
├── DeviceMemoryError              1   even the smallest chunk does not fit the device's memory
├── UsageError                     2   options that make no sense together, or at all
│   ├── UnknownStem                2   a stem that this model does not separate
│   └── DeviceUnavailable          2   a device that is not there
└── CheckpointError                3   a checkpoint cannot be found, read or built
    └── UnknownModel               3   no such name in the registry

A message is one line that says what failed, the value, and what to do about it. It names a file as the user
named it. Errors of other packages are translated in the one file that calls them, with `raise ... from`.
"""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DependencyError",
    "DeviceMemoryError",
    "DeviceUnavailable",
    "InputError",
    "OutputError",
    "OutputExists",
    "SeparateError",
    "UnknownModel",
    "UnknownStem",
    "UsageError",
]


class SeparateError(Exception):
    """The root: catch this to catch everything that separate raises on purpose."""

    exit_code = 1


class InputError(SeparateError):
    """A song cannot be read."""


class OutputError(SeparateError):
    """A stem cannot be written."""


class OutputExists(OutputError):
    """A stem's file is there already and may not be overwritten."""


class DependencyError(SeparateError):
    """A package is missing, or its version does not match another's."""


class DeviceMemoryError(SeparateError):
    """Even one chunk of the smallest length does not fit the device's memory."""


class UsageError(SeparateError):
    """Options that make no sense together, or at all."""

    exit_code = 2


class UnknownStem(UsageError):
    """A stem that the model does not separate."""


class DeviceUnavailable(UsageError):
    """A device that this machine does not have."""


class CheckpointError(SeparateError):
    """A checkpoint cannot be found, read or built."""

    exit_code = 3


class UnknownModel(CheckpointError):
    """A name that is neither in the registry nor a file."""
