from __future__ import annotations

import subprocess
import sys

import pytest

from separate.audio.formats import CONTAINERS, check_channels, choose_format, supported_rate
from separate.errors import OutputError, UsageError


@pytest.mark.parametrize(
    ("name", "source_bits", "source_is_float", "expected"),
    [
        ("wav", 8, False, 16),
        ("wav", 16, False, 16),
        ("wav", 20, False, 24),
        ("wav", 24, False, 24),
        ("wav", 32, False, 32),
        ("wav", 32, True, "float"),
        ("wav", 64, True, "float"),
        ("flac", 8, False, 16),
        ("flac", 16, False, 16),
        ("flac", 24, False, 24),
        ("flac", 32, False, 24),
        ("flac", 32, True, 24),
        ("ogg", 16, False, None),
        ("opus", 24, False, None),
        ("mp3", 32, True, None),
        ("m4a", 16, False, None),
    ],
)
def test_the_depth_is_at_least_the_inputs(
    name: str, source_bits: int, source_is_float: bool, expected: int | str | None
) -> None:
    chosen = choose_format(name, None, source_bits, source_is_float)
    assert chosen.bits == expected
    assert chosen.suffix == f".{name}"
    assert chosen.lossy == (expected is None)
    assert chosen.bounded == (expected != "float")


@pytest.mark.parametrize(("name", "bits"), [(row.name, bits) for row in CONTAINERS.values() for bits in row.bits])
def test_a_given_depth_is_taken(name: str, bits: int | str) -> None:
    assert choose_format(name.upper(), str(bits), 24, False).bits == bits


@pytest.mark.parametrize(
    ("name", "bits", "words"),
    [
        ("flac", "float", ["--bits float", "flac takes 16, 24", "--format wav"]),
        ("flac", "32", ["--bits 32", "--format wav"]),
        ("mp3", "24", ["mp3 is lossy", "leave --bits out"]),
        ("wav", "12", ["--bits 12", "16, 24, 32, float"]),
        ("aac", None, ["'aac'", "wav, flac, ogg, opus, mp3, m4a"]),
        ("", None, ["wav, flac, ogg, opus, mp3, m4a"]),
    ],
)
def test_what_is_impossible_is_explained(name: str, bits: str | None, words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        choose_format(name, bits, 16, False)
    message = str(raised.value)
    assert all(word in message for word in words)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "rate", "expected"),
    [
        ("wav", 8_000, 8_000),
        ("wav", 192_000, 192_000),
        ("flac", 192_000, 192_000),
        ("flac", 705_600, 655_350),
        ("ogg", 44_100, 44_100),
        ("ogg", 7_350, 8_000),
        ("ogg", 384_000, 192_000),
        ("opus", 44_100, 48_000),
        ("opus", 48_000, 48_000),
        ("opus", 96_000, 48_000),
        ("opus", 16_000, 16_000),
        ("opus", 11_025, 12_000),
        ("mp3", 44_100, 44_100),
        ("mp3", 37_800, 44_100),
        ("mp3", 96_000, 48_000),
        ("m4a", 96_000, 96_000),
        ("m4a", 192_000, 96_000),
    ],
)
def test_the_rate_is_the_nearest_that_holds_the_song(name: str, rate: int, expected: int) -> None:
    assert supported_rate(choose_format(name, None, 16, False), rate) == expected


def test_channels_that_do_not_fit_name_the_formats_where_they_do() -> None:
    mp3 = choose_format("mp3", None, 16, False)
    check_channels(mp3, 2, "song.mp3")
    with pytest.raises(OutputError, match=r"^song\.mp3: .*mp3 takes 1 to 2 channels, not 6; .* wav or flac"):
        check_channels(mp3, 6, "song.mp3")
    with pytest.raises(OutputError, match=r"not 9; choose --format wav$"):
        check_channels(choose_format("flac", None, 16, False), 9, "song.flac")


def test_the_table_needs_no_numpy() -> None:
    code = "import sys, separate.audio.formats; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
