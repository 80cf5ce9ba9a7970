# mypy: allow-untyped-calls
from __future__ import annotations

import base64
import io
import os
import resource
import signal
import struct
from pathlib import Path
from typing import Any

import av
import mutagen
import numpy as np
import pytest
import soundfile
from mutagen import id3
from mutagen.aiff import AIFF
from mutagen.apev2 import BINARY, APEv2, APEValue
from mutagen.asf import ASF
from mutagen.asf._attrs import ASFByteArrayAttribute, ASFUnicodeAttribute
from mutagen.flac import FLAC, Picture
from mutagen.mp3 import MP3
from mutagen.mp4 import MP4, MP4Cover
from mutagen.oggopus import OggOpus
from mutagen.oggvorbis import OggVorbis
from mutagen.wave import WAVE

from separate.audio.encoders import EncodedFile
from separate.audio.tag_writer import copy_tags
from separate.audio.tags import FIELDS
from tests.audio._out_songs import decode, format_of, tones

TARGETS = ["wav", "flac", "ogg", "opus", "mp3", "m4a"]
SOURCES = [*TARGETS, "aiff"]
KINDS: dict[str, Any] = {
    "wav": WAVE, "flac": FLAC, "ogg": OggVorbis, "opus": OggOpus, "mp3": MP3, "m4a": MP4, "aiff": AIFF
}  # fmt: skip
JPEG = b"\xff\xd8\xff\xe0" + bytes(range(128, 256)) * 40
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(128, 256)) * 60
# Every field has a value of its own; these three have a form of their own.
VALUES = {row.name: [f"{row.name.lower()} — ü 音"] for row in FIELDS}
VALUES |= {"TRACKNUMBER": ["3/12"], "DISCNUMBER": ["1/2"], "DATE": ["2019-05-04"], "ORIGINALDATE": ["1999"]}
VALUES |= {"BPM": ["128"], "COMPILATION": ["1"], "LANGUAGE": ["eng"], "ISRC": ["USRC17607839"]}
NOT_OURS = {"REPLAYGAIN_TRACK_GAIN": "-7.5 dB", "R128_TRACK_GAIN": "-1000", "ENCODER": "An encoder", "LENGTH": "12345"}


def song(path: Path, frames: int = 5000) -> Path:
    """Write an audio file without tags; its name may say anything."""
    if path.suffix == ".aiff":
        soundfile.write(path, tones(2, frames).T, 48_000)
        return path
    return encoded(path, path.suffix[1:], frames)


def encoded(path: Path, format: str, frames: int = 5000) -> Path:
    file = EncodedFile(path, path, format_of(format), rate=48_000, channels=2)
    file.write(tones(2, frames))
    file.close()
    return path


def tag(path: Path, values: dict[str, list[str]], covers: list[bytes]) -> None:
    """Give a song tags as other programs do, and those that must not be copied."""
    file = KINDS[path.suffix[1:]](path)
    if file.tags is None:
        file.add_tags()
    if isinstance(file.tags, id3.ID3):
        tag_id3(file, values, covers)
    elif isinstance(file, MP4):
        tag_mp4(file, values, covers)
    else:
        tag_vorbis(file, values, covers)
    file.save()


def tag_id3(file: Any, values: dict[str, list[str]], covers: list[bytes]) -> None:
    for row in FIELDS:
        extra = {"lang": "eng", "desc": ""} if row.id3 in ("COMM", "USLT") else {}
        if texts := values.get(row.name, []):
            text: Any = texts[0] if row.id3 == "USLT" else texts
            file.tags.add(getattr(id3, row.id3)(encoding=1, text=text, **extra))
    for i, data in enumerate(covers):
        file.tags.add(id3.APIC(encoding=0, mime="image/jpeg", type=3 + i, desc=f"cover {i}", data=data))
    for name, text in NOT_OURS.items():
        file.tags.add(id3.TXXX(encoding=3, desc=name, text=text))
    file.tags.add(id3.TSSE(encoding=3, text="An encoder"))
    file.tags.add(id3.TLEN(encoding=3, text="12345"))
    file.tags.add(id3.RVA2(desc="track", channel=1, gain=-7.5, peak=1))
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="iTunNORM", text=" 00000001 00000002"))
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="iTunSMPB", text=" 00000000 00000840"))


def tag_mp4(file: Any, values: dict[str, list[str]], covers: list[bytes]) -> None:
    for row in FIELDS:
        texts = values.get(row.name, [])
        if texts and row.mp4 in ("trkn", "disk"):
            file.tags[row.mp4] = [tuple(map(int, texts[0].split("/")))]
        elif texts and row.mp4 in ("tmpo", "cpil"):
            file.tags[row.mp4] = [int(texts[0])] if row.mp4 == "tmpo" else True
        elif texts:
            file.tags[row.mp4] = [text.encode() for text in texts] if row.mp4.startswith("----") else texts
    file.tags["covr"] = [MP4Cover(data, MP4Cover.FORMAT_JPEG) for data in covers]
    file.tags["©too"] = ["An encoder"]
    for name, text in {**NOT_OURS, "iTunSMPB": " 00000000 00000840"}.items():
        file.tags[f"----:com.apple.iTunes:{name}"] = [text.encode()]


def tag_vorbis(file: Any, values: dict[str, list[str]], covers: list[bytes]) -> None:
    for name, texts in values.items():
        file.tags[name] = texts
    for name, text in NOT_OURS.items():
        file.tags[name] = text
    pictures = []
    for i, data in enumerate(covers):
        picture = Picture()
        picture.data, picture.type, picture.mime, picture.desc = data, 3 + i, "image/jpeg", f"cover {i}"
        pictures.append(picture)
    if isinstance(file, FLAC):
        for picture in pictures:
            file.add_picture(picture)
    else:
        file.tags["metadata_block_picture"] = [base64.b64encode(each.write()).decode() for each in pictures]


def dump(path: Path, format: str) -> tuple[dict[str, list[str]], list[bytes], str]:
    """Read tags back by their names in the target's format, and all of them as one text."""
    file = KINDS[format](path)
    values: dict[str, list[str]] = {}
    if isinstance(file.tags, id3.ID3):
        for row in FIELDS:
            for frame in file.tags.getall(row.id3):
                values[row.name] = [frame.text] if row.id3 == "USLT" else list(map(str, frame.text))
        covers = [frame.data for frame in file.tags.getall("APIC")]
    elif isinstance(file, MP4):
        for row in FIELDS:
            found = file.tags.get(row.mp4, []) if file.tags else []
            if row.mp4 in ("trkn", "disk"):
                found = [f"{number}/{total}" for number, total in found]
            elif row.mp4 == "cpil":
                found = ["1"] if found else []
            if found:
                values[row.name] = [each.decode() if isinstance(each, bytes) else str(each) for each in found]
        covers = [bytes(data) for data in (file.tags or {}).get("covr", [])]
    else:
        for row in FIELDS:
            if found := file.tags.get(row.name, []):
                total = file.tags.get({"TRACKNUMBER": "TRACKTOTAL", "DISCNUMBER": "DISCTOTAL"}.get(row.name, "-"), [])
                values[row.name] = [f"{found[0]}/{total[0]}"] if total else list(found)
        blocks = [Picture(base64.b64decode(text)) for text in file.tags.get("metadata_block_picture", [])]
        covers = [picture.data for picture in [*getattr(file, "pictures", []), *blocks]]
    return values, covers, repr(dict(file.tags or {}))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_every_field_goes_from_every_format_into_every_format(source: str, target: str, tmp_path: Path) -> None:
    original = song(tmp_path / f"song.{source}")
    tag(original, VALUES, [JPEG, PNG])
    copy = encoded(tmp_path / ".x.part", target)
    before = decode_as(copy, target)
    assert copy_tags(original, copy, target) is None
    values, covers, everything = dump(copy, target)
    assert values == VALUES
    assert covers == [JPEG, PNG]
    assert not any(word in everything for word in ("-7.5", "-1000", "12345", "An encoder", "00000840", "00000001"))
    assert np.array_equal(decode_as(copy, target), before)


def decode_as(path: Path, format: str) -> Any:
    named = path.with_suffix(f".{format}")
    os.link(path, named)
    try:
        return decode(named)[0]
    finally:
        named.unlink()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("target", TARGETS)
def test_a_song_without_tags_gives_only_the_stems_name(source: str, target: str, tmp_path: Path) -> None:
    original = song(tmp_path / f"song.{source}")
    copy = encoded(tmp_path / "copy", target)
    before = copy.read_bytes()
    assert copy_tags(original, copy, target) is None
    assert copy.read_bytes() == before
    assert copy_tags(original, copy, target, stem="vocals") is None
    assert dump(copy, target)[:2] == ({"SUBTITLE": ["vocals"]}, [])


@pytest.mark.parametrize("target", TARGETS)
def test_the_stem_is_added_to_a_subtitle(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"TITLE": ["A"], "SUBTITLE": ["Live"]}, [])
    copy = encoded(tmp_path / "copy", target)
    assert copy_tags(original, copy, target, stem="drums") is None
    assert dump(copy, target)[0] == {"TITLE": ["A"], "SUBTITLE": ["Live", "drums"]}


@pytest.mark.parametrize("target", TARGETS)
def test_the_title_says_which_version_it_is(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "a song.flac")
    copy = encoded(tmp_path / "copy", target)
    assert copy_tags(original, copy, target, stem="karaoke", in_title=True) is None
    assert dump(copy, target)[0] == {"TITLE": ["a song (karaoke)"], "SUBTITLE": ["karaoke"]}
    tag(original, {"TITLE": ["A"], "ARTIST": ["B"]}, [])
    assert copy_tags(original, copy, target, stem="karaoke", in_title=True) is None
    assert dump(copy, target)[0] == {"TITLE": ["A (karaoke)"], "ARTIST": ["B"], "SUBTITLE": ["karaoke"]}


@pytest.mark.parametrize("target", TARGETS)
def test_several_values_stay_several(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.ogg")
    tag(original, {"ARTIST": ["One", "Two"], "GENRE": ["Jazz", "Funk"]}, [])
    copy = encoded(tmp_path / "copy", target)
    assert copy_tags(original, copy, target) is None
    assert dump(copy, target)[0] == {"ARTIST": ["One", "Two"], "GENRE": ["Jazz", "Funk"]}


@pytest.mark.parametrize("target", TARGETS)
def test_values_that_do_not_fit_are_left_out_alone(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(
        original,
        {"TITLE": ["A\0B"], "TRACKNUMBER": ["A side"], "BPM": ["fast"], "ARTIST": [" "], "MOOD": ["x" * 9999]},
        [],
    )
    copy = encoded(tmp_path / "copy", target)
    assert copy_tags(original, copy, target) is None
    values = dump(copy, target)[0]
    assert values["TITLE"] == ["AB"]
    assert values["MOOD"] == ["x" * 9999]
    assert "ARTIST" not in values
    if target == "m4a":  # numbers, there
        assert not {"TRACKNUMBER", "BPM"} & set(values)


@pytest.mark.parametrize("target", TARGETS)
def test_a_cover_of_20_mb(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.mp3")
    tag(original, {"TITLE": ["A"]}, [JPEG + bytes(20_000_000)])
    copy = encoded(tmp_path / "copy", target)
    warning = copy_tags(original, copy, target)
    values, covers, _ = dump(copy, target)
    assert values == {"TITLE": ["A"]}
    if target in ("flac", "ogg", "opus"):
        assert warning == f"cover art left out: its 20 MB are too much for {target}"
        assert covers == []
    else:
        assert warning is None
        assert [len(cover) for cover in covers] == [len(JPEG) + 20_000_000]
    assert decode_as(copy, target).shape == (2, 5000)


def test_a_cover_that_m4a_cannot_hold(tmp_path: Path) -> None:
    original = song(tmp_path / "song.mp3")
    tag(original, {"TITLE": ["A"]}, [b"GIF89a" + bytes(100), PNG])
    copy = encoded(tmp_path / "copy", "m4a")
    assert copy_tags(original, copy, "m4a") == "cover art left out: m4a takes JPEG and PNG only"
    assert dump(copy, "m4a")[:2] == ({"TITLE": ["A"]}, [PNG])


@pytest.mark.parametrize(
    ("date", "year"), [("12/05/2004", "2004"), ("c1999", "1999"), ("2001-5-3", "2001"), ("20010503", "20010503")]
)
def test_dates_in_other_words_keep_their_year(date: str, year: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"DATE": [date]}, [])
    copy = encoded(tmp_path / "copy", "mp3")
    assert copy_tags(original, copy, "mp3") is None
    assert dump(copy, "mp3")[0]["DATE"][0].startswith(year)


def test_a_date_without_a_year_is_left_out_and_said(tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"DATE": ["long ago"], "TITLE": ["A"]}, [])
    copy = encoded(tmp_path / "copy", "wav")
    assert copy_tags(original, copy, "wav") == "left out, for wav takes dates with a year alone: long ago"
    assert dump(copy, "wav")[0] == {"TITLE": ["A"]}


def test_other_names_of_vorbis_comments(tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    file: Any = FLAC(original)
    file.tags.update({"YEAR": "1999", "ALBUM ARTIST": "Both", "UNSYNCEDLYRICS": "La", "DESCRIPTION": "Live"})
    file.save()
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    expected = {"DATE": ["1999"], "ALBUMARTIST": ["Both"], "LYRICS": ["La"], "COMMENT": ["Live"]}
    assert dump(copy, "flac")[0] == expected


def test_a_comment_that_is_there_twice(tmp_path: Path) -> None:
    original = song(tmp_path / "song.mp3")
    file: Any = MP3(original)
    file.add_tags()
    file.tags.add(id3.COMM(encoding=3, lang="eng", desc="", text="Recorded live in the old church of St. Mary"))
    file.save(v1=2)
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    assert dump(copy, "flac")[0] == {"COMMENT": ["Recorded live in the old church of St. Mary"]}


def test_id3_in_a_wav_does_not_hide_its_own_tags(tmp_path: Path) -> None:
    original = riff_tagged(tmp_path / "song.wav", {b"INAM": b"A title\0", b"IART": b"Somebody\0"})
    file: Any = WAVE(original)
    file.add_tags()
    file.tags.add(id3.GEOB(encoding=3, mime="x/y", filename="", desc="Overview of a player", data=b"1234"))
    file.save()
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    assert dump(copy, "flac")[0] == {"TITLE": ["A title"], "ARTIST": ["Somebody"]}


def test_a_long_wav_without_tags_is_no_trouble(tmp_path: Path) -> None:
    original = tmp_path / "song.wav"
    soundfile.write(original, tones(2, 5000).T, 48_000, format="RF64")
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac", stem="vocals", in_title=True) is None
    assert dump(copy, "flac")[0] == {"TITLE": ["song (vocals)"], "SUBTITLE": ["vocals"]}


def test_all_values_of_ape_tags(tmp_path: Path) -> None:
    original = ffmpegs(tmp_path / "song.wv", "wv", "wavpack")
    tags = APEv2()
    tags["Artist"], tags["Genre"] = ["One", "Two"], ["Jazz", "Funk"]
    tags["Year"], tags["album artist"], tags["Track"], tags["ISRC"] = "1999", "Both", "3/12", "USRC17607839"
    tags.save(original)
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    found = dump(copy, "flac")[0]
    assert (found["ARTIST"], found["GENRE"]) == (["One", "Two"], ["Jazz", "Funk"])
    assert (found["DATE"], found["ALBUMARTIST"], found["ISRC"]) == (["1999"], ["Both"], ["USRC17607839"])
    assert found["TRACKNUMBER"][0].startswith("3")


def test_all_values_of_wma(tmp_path: Path) -> None:
    original = ffmpegs(tmp_path / "song.wma", "asf", "wmav2")
    file: Any = ASF(original)
    file.tags["Author"], file.tags["WM/Genre"] = ["One", "Two"], ["Jazz", "Funk"]
    file.tags["WM/Year"], file.tags["WM/TrackNumber"], file.tags["WM/IsCompilation"] = ["1999"], [3], [True]
    file.save()
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    expected = {"ARTIST": ["One", "Two"], "GENRE": ["Jazz", "Funk"], "DATE": ["1999"]}
    assert dump(copy, "flac")[0] == expected | {"TRACKNUMBER": ["3"], "COMPILATION": ["1"]}


def test_text_that_is_not_utf_8(tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"TITLE": ["A title"]}, [])
    original.write_bytes(original.read_bytes().replace(b"A title", b"\xff\xfe\xfditle"))
    copy = encoded(tmp_path / "copy", "mp3")
    assert copy_tags(original, copy, "mp3") is None
    assert dump(copy, "mp3")[0]["TITLE"][0].endswith("itle")


def riff_tagged(path: Path, tags: dict[bytes, bytes]) -> Path:
    """Write a song with RIFF's own tags behind its sound."""
    padded = {name: text + bytes(len(text) % 2) for name, text in tags.items()}
    items = b"".join(name + struct.pack("<I", len(text)) + text for name, text in padded.items())
    data = song(path).read_bytes() + b"LIST" + struct.pack("<I", len(items) + 4) + b"INFO" + items
    path.write_bytes(data[:4] + struct.pack("<I", len(data) - 8) + data[8:])
    return path


@pytest.mark.parametrize(
    ("name", "artist"),
    [
        ("song.wav", b"Somebody\0\0"),
        ("Part1: take.wav", b"Somebody\0\0"),  # "Part1:" is no protocol
        ("song.wav", "Motörhead\0".encode()),
        ("song.wav", "Motörhead\0".encode("cp1252")),  # as most programs on Windows write
    ],
)
def test_the_tags_that_riff_itself_has(
    name: str, artist: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    original = riff_tagged(Path(name), {b"INAM": b"A title\0", b"IART": artist})
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    said = "Somebody" if b"Some" in artist else "Motörhead"
    assert dump(copy, "flac")[0] == {"TITLE": ["A title"], "ARTIST": [said]}


@pytest.mark.parametrize("name", ["song.wv", "Live: song.wv"])
def test_covers_of_ape_tags(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    original = ffmpegs(Path(name), "wv", "wavpack")
    tags = APEv2()
    tags["Title"] = "A title"
    tags["Cover Art (Front)"] = APEValue(b"cover.jpg\0" + JPEG, BINARY)
    tags["cover art (back)"] = APEValue(b"\0" + PNG, BINARY)
    tags.save(original)
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(str(original), copy, "flac") is None
    assert dump(copy, "flac")[:2] == ({"TITLE": ["A title"]}, [JPEG, PNG])
    assert [(picture.type, picture.mime) for picture in FLAC(copy).pictures] == [(3, "image/jpeg"), (4, "image/png")]


def test_an_odd_cover_costs_no_other_tag(tmp_path: Path) -> None:
    original = ffmpegs(tmp_path / "song.wv", "wv", "wavpack")
    tags = APEv2()
    tags["Title"] = "A title"
    tags["Cover Art (Front)"] = "no picture"
    tags.save(original)
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    assert dump(copy, "flac")[:2] == ({"TITLE": ["A title"]}, [])


def test_covers_of_wma(tmp_path: Path) -> None:
    original = ffmpegs(tmp_path / "song.wma", "asf", "wmav2")
    file: Any = ASF(original)
    file.tags["Title"] = ["A title"]
    head = struct.pack("<BI", 3, len(JPEG)) + "image/jpeg\0A cover\0".encode("utf-16-le")
    odd = [ASFByteArrayAttribute(data) for data in (b"", b"\3\xff\xff\xff\xffab", b"\3\0\0\0\0\0\xd8")]
    file.tags["WM/Picture"] = [*odd, ASFUnicodeAttribute("no picture"), ASFByteArrayAttribute(head + JPEG)]
    file.save()
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    assert dump(copy, "flac")[:2] == ({"TITLE": ["A title"]}, [JPEG])
    (picture,) = FLAC(copy).pictures
    assert (picture.type, picture.mime, picture.desc) == (3, "image/jpeg", "A cover")


@pytest.mark.parametrize(("container", "codec"), [("asf", "wmav2"), ("webm", "libopus")])
def test_tags_of_formats_that_mutagen_does_not_know(container: str, codec: str, tmp_path: Path) -> None:
    original = ffmpegs(tmp_path / "song", container, codec, title="A title", artist="Somebody", track="3")
    copy = encoded(tmp_path / "copy", "flac")
    assert copy_tags(original, copy, "flac") is None
    assert dump(copy, "flac")[0] == {"TITLE": ["A title"], "ARTIST": ["Somebody"], "TRACKNUMBER": ["3"]}


def ffmpegs(path: Path, container: str, codec: str, **tags: str) -> Path:
    """Write a song with FFmpeg's libraries."""
    with av.open(str(path.absolute()), "w", format=container) as file:
        stream: Any = file.add_stream(codec, rate=48_000, layout="stereo", bit_rate=128_000)
        file.metadata.update(tags)
        if codec == "wavpack":  # which would begin with 8 bits
            stream.format = "fltp"
        frame = av.AudioFrame.from_ndarray(tones(2, 4096), format="fltp", layout="stereo")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("head", [b"", b"hello", b"ID3\x04\0\0\x7f\x7f\x7f\x7f", b"fLaC\0\0\0", b"OggS\0\x02", b"RIFF"])
def test_broken_sources_are_at_most_a_warning(head: bytes, tmp_path: Path) -> None:
    for suffix in SOURCES:
        original = tmp_path / f"song.{suffix}"
        original.write_bytes(head + bytes(50))
        copy = encoded(tmp_path / "copy", "flac", 100)
        before = copy.read_bytes()
        warning = copy_tags(original, copy, "flac")
        assert warning is None or (warning.startswith("tags could not be read: ") and "\n" not in warning)
        assert copy.read_bytes() == before


def test_tags_cut_short_anywhere_never_raise(tmp_path: Path) -> None:
    original = song(tmp_path / "song.mp3")
    tag(original, VALUES, [JPEG])
    whole = original.read_bytes()
    copy = encoded(tmp_path / "copy", "flac", 100)
    for size in range(0, 9000, 97):
        original.write_bytes(whole[:size])
        warning = copy_tags(original, copy, "flac")
        assert warning is None or "\n" not in warning


@pytest.mark.parametrize("target", TARGETS)
def test_a_disk_that_is_full_is_not_a_warning(target: str, tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"TITLE": ["A"]}, [JPEG + bytes(1_000_000)])
    copy = encoded(tmp_path / "copy", target)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, before[1]))
        with pytest.raises(OSError, match="File too large"):
            copy_tags(original, copy, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_mutagen_is_told_the_type(tmp_path: Path) -> None:
    original = song(tmp_path / "song.flac")
    tag(original, {"TITLE": ["A"]}, [])
    copy = encoded(tmp_path / "looks-like.flac", "mp3")
    assert copy_tags(original, copy, "mp3") is None
    assert isinstance(mutagen.File(io.BytesIO(copy.read_bytes())), MP3)
