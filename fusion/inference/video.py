"""Two videos fused into a third, frame by frame in constant memory."""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from torch import Tensor

from fusion.data.files.formats import VIDEOS, is_video, suffix_of
from fusion.data.files.limits import set_max_pixels
from fusion.data.files.ranges import PERCENTILES, check_range
from fusion.data.files.video import Frame, Video, VideoWriter, choose_codec
from fusion.data.sources import DEPTH_CHOICES, Sources, prepare
from fusion.data.transforms.grid import Geometry, on_one_grid
from fusion.data.transforms.registration import find_warp, warp
from fusion.errors import ConfigError, DataError
from fusion.files import atomic
from fusion.inference.controls import ready_model
from fusion.inference.folders import read_options
from fusion.inference.steadiness import Steadiness
from fusion.job.config import plain
from fusion.job.meter import Meter
from fusion.job.notices import Notices
from fusion.layers.color import split_luma
from fusion.layers.palettes import palette_of
from fusion.models.color import NativeColor, check_color, has_color

SAME_RATE = 1e-3
"""Relative difference of frame rates up to which the n-th frames belong together."""


def predict(cfg: DictConfig) -> None:
    """Fuse the videos `a` and `b` into `out`; a result that is not complete does not get its name.

    Raises:
        FusionError: what cannot be read, fused or written.
    """
    options: dict[str, Any] = {
        str(key): plain(cfg[key]) for key in cfg if key not in ("model", "control", "paths", "hydra")
    }
    set_max_pixels(plain(cfg.get("data") or {}).get("max_pixels"))
    paths = [Path(str(options[key])).expanduser() for key in ("a", "b")]
    for key, path in zip(("a", "b"), paths, strict=True):
        if not is_video(path) or path.is_dir():
            other = paths[1 - paths.index(path)]
            raise DataError(f"{key}={path} is no video and {other} is one: give two videos, or two pictures")
    out = target_of(options, paths)
    reading = read_options(options)
    check_color(options["color"])
    if str(options["depth"]) not in DEPTH_CHOICES:
        raise ConfigError(f"depth={options['depth']}: expected one of {', '.join(DEPTH_CHOICES)}")
    controls = {key: value for key, value in (plain(cfg.control) or {}).items() if value is not None}
    if out.exists() and not options["overwrite"]:
        print(f"nothing to do: {out} is there already (overwrite=false)")
        return
    notices = Notices()
    a, b = (Video(path) for path in paths)
    deep = ((a.deep or b.deep) and str(options["depth"]) == "keep") or str(options["depth"]) in ("16", "32", "float")
    choose_codec(out, options["codec"], deep)
    reader = PairReader(a, b, reading, options["check_alignment"] != 0)
    notices.add(*reader.notes)
    model = ready_model(cfg, options, controls)
    counts = [video.count for video in (a, b) if video.count]
    meter = Meter(min(counts) if counts and reader.by_index else a.count, "fused", unit="frames")
    steadiness, writer, clock = Steadiness(), None, Clock(a)
    choose = ColorOnce(options["color"], model.native_color)
    with atomic(out) as temporary, closing(reader.pairs()) as pairs:
        try:
            for frame, sources in pairs:
                images = choose(sources.images)
                first, second = (image.to(model.device) for image in images)
                output = model.fuse(
                    first, second, options["task"], color=choose.rule, max_memory=options["max_memory"], **controls
                )
                result = sources.finish(output.fused, "16" if deep else "8", False)
                if writer is None:
                    notices.add(*sources.notes, *(f"color: {line}" for line in output.extras["color"]))
                    writer = VideoWriter(
                        temporary, out, result.size, clock.rate, clock.base, deep, options["codec"], options["crf"],
                        paths[0] if options["audio"] else None,
                    )  # fmt: skip
                    notices.add(*writer.notes)
                writer.write(result.planes, clock.pts(frame))
                steadiness.add(sources.images[0], sources.images[1], output.fused)
                meter.step()
            assert writer is not None
            writer.finish(clock.seconds)
        finally:
            if writer is not None:
                writer.close()
    meter.close(str(out))
    notices.add(*reader.said_at_end())
    print(steadiness.line())
    notices.close()


def target_of(options: dict[str, Any], paths: list[Path]) -> Path:
    """The file that is written: `out`, or in the folder `out` a file named like `a`.

    Raises:
        ConfigError: a file that cannot be a video, or a source.
    """
    text = str(options["out"])
    out = Path(text).expanduser()
    if out.is_dir() or text.endswith("/") or not out.suffix:
        out = out / (paths[0].name if suffix_of(paths[0]) in VIDEOS else f"{paths[0].stem}.mp4")
    elif not is_video(out):
        raise ConfigError(f"out={out}: a and b are videos, so out is one too, such as fused.mp4")
    if out.resolve() in {path.resolve() for path in paths}:
        raise ConfigError(f"out={out}: is a source; choose another name")
    return out


class ColorOnce:
    """`color=auto` decided once for a whole video, so that it does not change from frame to frame.

    What the rule of pictures (`fusion.models.color`) says of the first frame holds, except that a source counts as one in
    colour from the first frame on that shows some.

    Args:
        color: the rule that the user chose.
        native: where the method's colour comes from.

    Attributes:
        rule: for `FusionModel.fuse`, known after the first call.
    """

    def __init__(self, color: str, native: NativeColor) -> None:
        self._auto, self._native = color == "auto", native
        self.rule = color
        self._colored = [False, False]
        self._false = [False, False]

    def __call__(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Look at a frame `(1, 3, H, W)` of each source; returns them as the rule wants them."""
        if not self._auto:
            return list(images)
        for index, image in enumerate(images):
            if not self._colored[index] and bool(has_color(image)[0]):
                self._colored[index] = True
                self._false[index] = palette_of(image[0]) is not None
        real = [colored and not false for colored, false in zip(self._colored, self._false, strict=True)]
        gray = [false and any(real) for false in self._false]  # false colour beside true colour
        counts = [colored and not g for colored, g in zip(self._colored, gray, strict=True)]
        if self._native == "rgb":
            self.rule = "rgb"
        elif all(counts):
            self.rule = "a" if self._native == "a" else "ycbcr"
        else:
            self.rule = "a" if counts[0] else "b" if counts[1] else "luma"
        return [split_luma(image)[0].expand_as(image) if g else image for image, g in zip(images, gray, strict=True)]


class Clock:
    """Times of the result: those of `a` from 0 on, or by its frame rate where it has none."""

    def __init__(self, video: Video) -> None:
        self.rate = video.rate or Fraction(25)
        self.base = video.time_base
        self.seconds = 0.0
        self._start: int | None = None
        self._last = -1

    def pts(self, frame: Frame) -> int:
        """In units of `base`, each larger than the one before."""
        step = max(1, round(1 / (self.rate * self.base)))
        if frame.pts is None:
            value = self._last + step if self._last >= 0 else 0
        else:
            self._start = frame.pts if self._start is None else self._start
            value = frame.pts - self._start
        self._last = max(value, self._last + 1)
        self.seconds = float((self._last + step) * self.base)
        return self._last


class PairReader:
    """Frames of two videos that belong together, ready to be fused.

    Frame rates that agree: the n-th with the n-th. Otherwise every frame of `a` goes with the frame of `b` that is nearest in
    time. What holds for a picture by its own values, `range=minmax` and a registration, is found once for the whole video, so
    that it does not flicker.

    Args:
        a, b: the videos.
        reading: see `fusion.inference.folders.read_options`.
        check: look at the first frames whether they lie on top of each other.
    """

    def __init__(self, a: Video, b: Video, reading: dict[str, Any], check: bool) -> None:
        self.videos, self._check = (a, b), check
        self.notes: list[str] = []
        self._geometry: Geometry = reading["geometry"]
        self._bands = reading["bands"]
        self._ranges = {
            side: whole_range(video, reading["ranges"].get(side, "auto"), f"range.{side}")
            for side, video in zip(("a", "b"), (a, b), strict=True)
        }
        self._warp: np.ndarray | None = None
        self._first = True
        self._ended: str | None = None
        rates = [float(video.rate or 0) for video in (a, b)]
        self.by_index = not all(rates) or abs(rates[0] / rates[1] - 1) < SAME_RATE
        if not self.by_index:
            self.notes.append(
                f"frame rates differ: {a.path} has {rates[0]:.5g} frames/s, {b.path} {rates[1]:.5g}; every frame of a goes with "
                "the nearest in time of b, and the result has the rate of a"
            )
        if a.seconds and b.seconds and abs(a.seconds - b.seconds) > 1.5 / max(*rates, 1):
            self.notes.append(
                f"lengths differ: {a.path} {a.seconds:.2f} s, {b.path} {b.seconds:.2f} s; the result ends with the shorter one"
            )

    def pairs(self) -> Generator[tuple[Frame, Sources], None, None]:
        """The frame of `a` that gives the time, and both as they are fused; the next pair is decoded ahead."""
        with ThreadPoolExecutor(1) as ahead:
            matched = self._matched()
            waiting = ahead.submit(lambda: next(matched, None))
            try:
                while (found := waiting.result()) is not None:
                    waiting = ahead.submit(lambda: next(matched, None))
                    first, second = found
                    yield first, self._prepared(first, second)
            finally:
                waiting.cancel()
                ahead.shutdown(wait=True)
                matched.close()

    def said_at_end(self) -> list[str]:
        """Which of the two ended first, where that was not known from their headers."""
        return [self._ended] if self._ended and not any("lengths differ" in line for line in self.notes) else []

    def _matched(self) -> Generator[tuple[Frame, Frame], None, None]:
        a, b = self.videos
        others = b.frames()
        current = next(others, None)
        following = next(others, None)
        for number, frame in enumerate(a.frames()):
            if self.by_index:
                if number:
                    current, following = following, next(others, None) if following is not None else None
            else:
                while (
                    following is not None
                    and following.seconds <= frame.seconds + (following.seconds - current.seconds if current else 0) / 2
                ):
                    current, following = following, next(others, None)
                late = current is not None and frame.seconds - current.seconds > 0.75 / float(b.rate or 25)
                current = None if following is None and late else current
            if current is None:
                self._ended = f"{b.path} ends after {number} frames of {a.path}; so does the result"
                return
            yield frame, current
        if following is not None:
            self._ended = f"{a.path} ends before {b.path}; so does the result"

    def _prepared(self, first: Frame, second: Frame) -> Sources:
        rasters = [first.raster, second.raster]
        if self._geometry.register != "none":
            fitted, said = on_one_grid(rasters, replace(self._geometry, register="none"), ("a", "b"))
            if self._first:
                self._warp, found = find_warp(fitted[0], fitted[1], str(self._geometry.register), self._geometry.motion)
                said += [f"{line} (found on the first frame, used for all)" for line in found]
            rasters = fitted if self._warp is None else [fitted[0], warp(fitted[1], self._warp)]
            sources = prepare(rasters, self._ranges, self._bands, ("a", "b"), Geometry(overlap=self._geometry.overlap))
            sources.notes[:0] = said
        else:
            look = self._check and self._first
            sources = prepare(rasters, self._ranges, self._bands, ("a", "b"), self._geometry, look)
        self._first = False
        if sources.by_band:
            raise ConfigError("bands=each: for pictures; videos are fused in colour")
        return sources


def whole_range(video: Video, choice: Any, key: str) -> Any:
    """Black and white of a whole video: "minmax" and "percentile" are found by reading it once before, others stay."""
    choice = check_range(choice, key)
    if choice not in ("minmax", "percentile"):
        return choice
    counts = np.zeros(65536 if video.deep else 256, np.int64)
    with closing(video.frames()) as frames:
        for frame in frames:
            counts += np.bincount(frame.raster.planes.ravel(), minlength=len(counts))
    used = np.flatnonzero(counts)
    low, high = int(used[0]), int(used[-1])
    if choice == "percentile":
        total = counts.cumsum()
        low, high = (int(np.searchsorted(total, share / 100 * total[-1])) for share in PERCENTILES)
    return [float(low), float(max(high, low + 1))]
