"""Videos frame by frame, by PyAV (extra `video`): pictures in the colours of the stream, upright, with their times."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusion.data.files.formats import VIDEOS, suffix_of
from fusion.data.files.limits import check_pixels
from fusion.data.files.raster import Raster
from fusion.errors import ConfigError, DataError

CONTAINERS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts",
}  # fmt: skip
"""Formats that are written, by ending."""
CODECS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1", "ffv1": "ffv1"}
"""Encoders, by what people call the codec; ffv1 loses nothing and goes into .mkv and .avi."""
BT709, BT601 = 1, 5
UNSPECIFIED = 2
EXACT = 4 | 8192 | 262144
"""Conversion of colours: bicubic, chroma at full resolution, accurate rounding; the default darkens by a grey level."""
HD = 720
"""Rows from which a stream that does not say is taken to be BT.709, as players do."""


class Frame(NamedTuple):
    """A picture, seconds since the first one, and its time in units of the stream (None where the stream has none)."""

    raster: Raster
    seconds: float
    pts: int | None


def require_av() -> Any:
    """PyAV.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("av")
    except ModuleNotFoundError:
        raise ConfigError("videos need PyAV: python -m pip install 'image-fusion[video]'") from None


class Video:
    """A file that is read once from the start, or again by `frames`.

    Args:
        path: the file.

    Attributes:
        rate: frames per second; None where the file does not say.
        seconds: length; None where the file does not say.
        count: number of frames by the file's header, or by length and rate.
        time_base: seconds per unit of `pts`.
        deep: more than 8 bits.

    Raises:
        ConfigError: PyAV is missing.
        DataError: no video, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._av = require_av()
        with self.opened() as (container, stream):
            rate = stream.average_rate or stream.guessed_rate
            self.rate = Fraction(rate) if rate else None
            self.time_base = Fraction(stream.time_base)
            duration = stream.duration * stream.time_base if stream.duration else None
            if duration is None and container.duration:
                duration = Fraction(container.duration, 1_000_000)
            self.seconds = None if duration is None else float(duration)
            estimate = round(self.seconds * float(self.rate)) if self.seconds and self.rate else None
            self.count = stream.frames or estimate
            self.deep = max((part.bits for part in stream.format.components), default=8) > 8
            check_pixels(self.path, stream.width, stream.height)

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, Any]]:
        """The container and its first video stream.

        Raises:
            DataError: what the libraries say in one line.
        """
        errors = (self._av.error.FFmpegError, OSError, ValueError, IndexError)
        try:
            container = self._av.open(str(self.path))
        except errors as error:
            raise DataError(f"{self.path}: cannot be read as a video ({_short(error)})") from error
        with container:
            if not container.streams.video:
                raise DataError(f"{self.path}: has no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if stream.codec_context is None or stream.format is None:
                raise DataError(f"{self.path}: its video stream cannot be decoded")
            yield container, stream

    def frames(self) -> Generator[Frame, None, None]:
        """All frames in the order in which they are shown.

        Raises:
            DataError: damaged; the message says from which frame on.
        """
        number, start = 0, None
        with self.opened() as (container, stream):
            frames = container.decode(stream)
            while True:
                try:
                    frame = next(frames, None)
                except (self._av.error.FFmpegError, OSError, ValueError) as error:
                    raise DataError(f"{self.path}: damaged at frame {number} ({_short(error)})") from error
                if frame is None:
                    break
                seconds = float(frame.time) if frame.time is not None else number / float(self.rate or 25)
                start = seconds if start is None else start
                yield Frame(self._raster(frame), seconds - start, frame.pts)
                number += 1
        if number == 0:
            raise DataError(f"{self.path}: no frame in it can be decoded")

    def _raster(self, frame: Any) -> Raster:
        space = frame.colorspace if frame.colorspace not in (0, UNSPECIFIED) else BT709 if frame.height >= HD else BT601
        gray = frame.format.name.startswith("gray")
        kind = ("gray16le" if gray else "rgb48le") if self.deep else ("gray" if gray else "rgb24")
        values = frame.reformat(format=kind, src_colorspace=None if gray else space, interpolation=EXACT).to_ndarray()
        planes = values[None] if values.ndim == 2 else values.transpose(2, 0, 1)
        turns = round(getattr(frame, "rotation", 0) / 90) % 4
        planes = np.ascontiguousarray(np.rot90(planes, turns, (1, 2)))
        white = 65535.0 if self.deep else 255.0
        return Raster(planes, "gray" if gray else "rgb", (0.0, white), path=self.path)


class VideoWriter:
    """Encodes frames of one size, and copies the sound of another video.

    Args:
        path: where to write; the ending of `name` decides on the container.
        name: the file that is meant.
        size: height and width.
        rate: frames per second.
        time_base: seconds per unit of the times that `write` is given.
        deep: 10 bits instead of 8.
        codec: one of `CODECS`, or "auto".
        crf: constant rate factor: 0 loses nothing, about 18 is taken for visually lossless.
        sound: video whose audio streams are copied.

    Attributes:
        notes: what could not be kept.
    """

    def __init__(
        self,
        path: Path,
        name: Path,
        size: tuple[int, int],
        rate: Fraction,
        time_base: Fraction,
        deep: bool = False,
        codec: str = "auto",
        crf: float = 12,
        sound: Path | None = None,
    ) -> None:
        self._av = require_av()
        self.notes: list[str] = []
        self.path, self._deep, self._height = name, deep, size[0]
        chosen = choose_codec(name, codec, deep)
        self._file = self._av.open(str(path), "w", format=CONTAINERS[suffix_of(name)])
        self._stream = self._file.add_stream(CODECS[chosen], rate=rate)
        self._stream.height, self._stream.width = size
        odd = size[0] % 2 or size[1] % 2
        if odd and chosen != "ffv1":
            self.notes.append(
                f"{name}: odd size, so colour is written at full resolution (4:4:4), which some players lack"
            )
        layout = "444" if odd or chosen == "ffv1" else "420"
        self._stream.pix_fmt = f"yuv{layout}p{'10le' if deep else ''}"
        context = self._stream.codec_context
        context.time_base = time_base
        context.colorspace = BT709 if size[0] >= HD else BT601
        context.color_range = 1  # studio range, as everywhere
        self._stream.options = _options(chosen, crf)
        self._sounds, self._source = self._add_sound(sound)

    def write(self, planes: np.ndarray, pts: int) -> None:
        """Encode `(1|3, H, W)` uint8 or uint16."""
        values = np.ascontiguousarray((planes.repeat(3, 0) if len(planes) == 1 else planes).transpose(1, 2, 0))
        frame = self._av.VideoFrame.from_ndarray(values, format="rgb48le" if values.dtype == np.uint16 else "rgb24")
        space = BT709 if self._height >= HD else BT601
        frame = frame.reformat(
            format=self._stream.pix_fmt, dst_colorspace=space, dst_color_range=1, interpolation=EXACT
        )
        frame.pts, frame.time_base = pts, self._stream.codec_context.time_base
        for packet in self._stream.encode(frame):
            self._file.mux(packet)

    def finish(self, seconds: float) -> None:
        """Write what is held back, and the sound of the first seconds."""
        for packet in self._stream.encode(None):
            self._file.mux(packet)
        if self._source is not None:
            with self._source as container:
                for packet in container.demux(list(self._sounds)):
                    if packet.pts is None or float(packet.pts * packet.time_base) > seconds:
                        continue
                    packet.stream = self._sounds[packet.stream]
                    self._file.mux(packet)

    def close(self) -> None:
        """Close the file, whatever is in it."""
        self._file.close()

    def _add_sound(self, sound: Path | None) -> tuple[dict[Any, Any], Any]:
        if sound is None:
            return {}, None
        source = self._av.open(str(sound))
        known = self._file.supported_codecs
        added: dict[Any, Any] = {}
        for stream in source.streams.audio:
            codec = stream.codec_context.name if stream.codec_context is not None else "unknown"
            if codec not in known or (suffix_of(self.path) in (".mp4", ".m4v") and codec.startswith("pcm")):
                self.notes.append(f"{self.path}: the sound of {sound} ({codec}) does not go into this format; left out")
                continue
            added[stream] = self._file.add_stream_from_template(stream)
        if not added:
            source.close()
            return {}, None
        return added, source


def choose_codec(name: Path, codec: str, deep: bool) -> str:
    """The codec of a file.

    Raises:
        ConfigError: an unknown codec or container, or one that does not go into the other.
    """
    suffix = suffix_of(name)
    if suffix not in CONTAINERS:
        kind = "cannot be written" if suffix in VIDEOS else "is no video"
        raise ConfigError(f"{name}: '{suffix}' {kind}; use one of {' '.join(CONTAINERS)}")
    if codec == "auto":
        return "vp9" if suffix == ".webm" else "hevc" if deep and suffix != ".avi" else "h264"
    if codec not in CODECS:
        raise ConfigError(f"codec={codec}: expected auto, {', '.join(CODECS)}")
    fits = {".webm": ("vp9", "av1"), ".avi": ("h264", "ffv1"), ".ts": ("h264", "hevc"), ".mkv": tuple(CODECS)}
    allowed: Sequence[str] = fits.get(suffix, ("h264", "hevc", "vp9", "av1"))
    if codec not in allowed:
        raise ConfigError(f"codec={codec}: does not go into {suffix}; take {', '.join(allowed)}, or another ending")
    return codec


def _options(codec: str, crf: float) -> dict[str, str]:
    if codec == "ffv1":
        return {}
    quality = {"crf": f"{crf:g}"}
    quiet = {"x265-params": "log-level=error"} if codec == "hevc" else {"b": "0"} if codec == "vp9" else {}
    return quality | quiet


def _short(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).splitlines()[0][:120] or type(error).__name__
