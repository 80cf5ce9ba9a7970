"""Sound for browsers: MP3, which all of them decode, led in by a chirp that tells where it begins.

Encoders and decoders of MP3 put some hundreds of samples in front of a song, and browsers do not agree how many of
them they take away again. The page looks for the chirp in what it has decoded, and the song begins a fixed number of
samples later: to the sample, in every browser. The chirp is never played.
"""

from __future__ import annotations

from fractions import Fraction
from io import BytesIO

import av
import numpy as np
from numpy.typing import NDArray

__all__ = ["CHIRP", "LEAD", "Mp3", "browser_rate", "lead_in"]

LEAD = 12_288  # samples in front of the song
CHIRP = (4096, 512, 0.01, 0.13, 0.5)  # start and length in samples, first and last frequency over the rate, peak
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
_QUALITY = 4 * 118  # V4: variable, around 130 kbit/s for music, 32 for silence; 118 is a unit of FFmpeg's


def browser_rate(rate: int) -> int:
    """Choose the rate for a song's sound on the page: one that every browser and sound card knows."""
    return 44_100 if 44_100 % rate == 0 or rate % 44_100 == 0 else 48_000


def lead_in() -> NDArray[np.float32]:
    """Return the samples in front of a song."""
    start, length, first, last, peak = CHIRP
    time = np.arange(length)
    phase = 2 * np.pi * (first * time + (last - first) / (2 * length) * time**2)
    samples = np.zeros(LEAD, np.float32)
    samples[start : start + length] = peak * np.sin(np.pi * (time + 0.5) / length) ** 2 * np.sin(phase)
    return samples


class Mp3:
    """An MP3 file in memory: `write(block) ... close()`. More than two channels are mixed down to stereo."""

    def __init__(self, rate: int, channels: int) -> None:
        self.rate = browser_rate(rate)
        self._from = rate
        self._channels = channels if channels in _LAYOUTS else 2
        self._written = 0
        self._bytes = BytesIO()
        self._file = av.open(self._bytes, "w", format="mp3")
        options = {"flags": "+qscale", "global_quality": str(_QUALITY), "compression_level": "7"}
        layout = "mono" if channels == 1 else "stereo"
        self._stream = self._file.add_stream("libmp3lame", rate=self.rate, layout=layout, options=options)
        # Frames of the encoder's own size: what is resampled need not come in them.
        self._resampler = av.AudioResampler("fltp", layout, self.rate, frame_size=1152)
        self._lead(layout)

    def _lead(self, layout: str) -> None:
        channels = 1 if layout == "mono" else 2
        samples = np.tile(lead_in(), (channels, 1))
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=layout)
        frame.sample_rate = self.rate
        self._encode(frame)

    def _encode(self, frame: av.AudioFrame | None) -> None:
        if frame is not None:
            frame.pts = None
        self._file.mux(self._stream.encode(frame))

    def write(self, block: NDArray[np.float32]) -> None:
        """Append a block (channel, time)."""
        # Packed: PyAV 18.1 writes beyond the list of planes of 8 channels.
        samples = np.ascontiguousarray(block[: self._channels].T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="flt", layout=_LAYOUTS[self._channels])
        frame.sample_rate, frame.time_base, frame.pts = self._from, Fraction(1, self._from), self._written
        self._written += block.shape[1]
        for resampled in self._resampler.resample(frame):
            self._encode(resampled)

    def close(self) -> bytes:
        """Return the file."""
        for resampled in self._resampler.resample(None):
            self._encode(resampled)
        self._encode(None)
        self._file.close()
        return self._bytes.getvalue()
