"""Two videos into a third: values, times, lengths, sound, depth, steadiness, and what is refused."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fusion.data.files import video
from fusion.data.files.video import Video, choose_codec
from fusion.errors import ConfigError, DataError
from fusion.inference.steadiness import Steadiness
from fusion.inference.video import ColorOnce
from fusion.models.baselines import Average
from fusion.models.output import FusionOutput

av = pytest.importorskip("av", reason="needs the extra video")
Door = Callable[..., tuple[int, str]]


def ramp(t: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    return (np.sin((x + 2 * t) / 9) + 1) / 2


def clip(
    path: str, count: int, rate: int = 25, size=(64, 48), value=ramp, codec="libx264", layout="yuv444p", sound=False
) -> None:
    y, x = np.mgrid[: size[1], : size[0]]
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, layout
        stream.options = {} if codec == "ffv1" else {"crf": "4"}
        audio = file.add_stream("aac", rate=16000) if sound else None
        for t in range(count):
            level = (255 * value(t, y, x)).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.dstack([level, level // 2, 255 - level]), format="rgb24")
            file.mux(stream.encode(frame))
        if audio is not None:
            for k in range(12):
                tone = np.sin(np.arange(1024) / 8)[None].astype(np.float32) / 10
                packet = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
                packet.sample_rate, packet.pts = 16000, 1024 * k
                file.mux(audio.encode(packet))
            file.mux(audio.encode(None))
        file.mux(stream.encode(None))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fuse(door: Door, *arguments: str) -> str:
    status, text = door("predict", "model=average", "device=cpu", *arguments)
    assert status == 0, text
    return text


def refused(door: Door, *arguments: str) -> str:
    status, text = door("predict", "model=average", "device=cpu", *arguments)
    assert status == 2 and "Traceback" not in text, text
    return text.strip().splitlines()[-1]


def frames(path: str) -> list[np.ndarray]:
    return [frame.raster.planes.astype(float) for frame in Video(path).frames()]


def test_the_average_of_two_videos_with_the_sound_of_the_first(door: Door) -> None:
    clip("vis.mp4", 12, sound=True)
    clip("ir.mp4", 10, value=lambda t, y, x: (y + x + t) % 64 / 64)
    text = fuse(door, "a=vis.mp4", "b=ir.mp4", "out=fused.mp4", "crf=4")
    assert "lengths differ: vis.mp4 0.48 s, ir.mp4 0.40 s; the result ends with the shorter one" in text
    assert "fused 10 frames in" in text and "frames/s" in text and "steadiness: flicker 0.000" in text
    made = Video("fused.mp4")
    assert (made.rate, made.count, made.deep) == (25, 10, False)
    with av.open("fused.mp4") as file:
        assert [stream.codec_context.name for stream in file.streams] == ["h264", "aac"]
    for a, b, fused in zip(frames("vis.mp4"), frames("ir.mp4"), frames("fused.mp4"), strict=False):
        error = fused - (a + b) / 2
        assert np.abs(error.mean((1, 2))).max() < 1  # no shift of colours
        assert np.abs(error.mean(0)).mean() < 2
    assert not list(Path().glob(".*"))


def test_frames_of_different_rates_are_matched_in_time(door: Door) -> None:
    clip("a.mkv", 8, rate=20, codec="ffv1")
    clip("b.mkv", 4, rate=10, codec="ffv1", value=lambda t, y, x: t / 4 + 0 * x)
    text = fuse(door, "a=a.mkv", "b=b.mkv", "out=o.mkv", "codec=ffv1")
    assert "frame rates differ: a.mkv has 20 frames/s, b.mkv 10" in text and "lengths differ" not in text
    sources, others, made = frames("a.mkv"), frames("b.mkv"), frames("o.mkv")
    assert len(made) == 8 and Video("o.mkv").rate == 20
    for index in (0, 2, 4, 6):  # these fall on frames of b
        assert np.abs(made[index] - (sources[index] + others[index // 2]) / 2).max() <= 4
    assert (
        np.abs(made[3] - (sources[3] + others[1]) / 2).max() <= 4
        or np.abs(made[3] - (sources[3] + others[2]) / 2).max() <= 4
    )


def test_sizes_depths_and_ranges_are_those_of_pictures(door: Door) -> None:
    clip("a.mkv", 3, size=(65, 49), codec="ffv1")
    clip(
        "b.mkv", 3, size=(32, 24), codec="ffv1", layout="yuv444p10le", value=lambda t, y, x: 0.3 + 0.1 * x / 32 + t / 99
    )
    assert "a.mkv is 65x49 and b.mkv is 32x24" in refused(door, "a=a.mkv", "b=b.mkv", "out=o.mkv")
    text = fuse(door, "a=a.mkv", "b=b.mkv", "out=o.mkv", "match_size=a", "fit=stretch", "range.b=minmax", "crf=0")
    made = Video("o.mkv")
    assert made.deep and frames("o.mkv")[0].shape == (3, 49, 65) and "odd size" in text
    fuse(door, "a=a.mkv", "b=b.mkv", "out=o8.webm", "match_size=b", "depth=8", "fit=stretch")
    assert not Video("o8.webm").deep and frames("o8.webm")[0].shape == (3, 24, 32)
    # One range for the whole video: brightness that rises in the source rises in the result.
    fuse(door, "a=b.mkv", "b=b.mkv", "out=up.mkv", "range=percentile", "codec=ffv1", "depth=8")
    means = [frame[0].mean() for frame in frames("up.mkv")]
    assert means[0] + 2 < means[1] < means[2] - 2


def test_a_false_colour_video_beside_a_grey_one_stays_the_same_kind_throughout() -> None:
    generator = torch.Generator().manual_seed(0)
    colored = torch.rand(1, 3, 8, 8, generator=generator)
    gray = colored[:, :1].expand(-1, 3, -1, -1)
    for native, rules in (("rgb", ("rgb", "rgb", "rgb")), ("a", ("luma", "b", "b")), ("merged", ("luma", "b", "b"))):
        choose = ColorOnce("auto", native)
        seen = []
        for second in (gray, colored, gray):  # once in colour, always in colour
            choose([gray, second])
            seen.append(choose.rule)
        assert tuple(seen) == rules
    choose = ColorOnce("ycbcr", "a")
    choose([gray, colored])
    assert choose.rule == "ycbcr"


def test_steadiness_counts_what_neither_source_shows() -> None:
    steady = Steadiness()
    still, moving = torch.full((1, 3, 4, 4), 0.5), [torch.full((1, 3, 4, 4), v) for v in (0.2, 0.4, 0.2)]
    for b in moving:
        steady.add(still, b, (still + b) / 2)
    assert steady.flicker == pytest.approx(0) and steady.change == pytest.approx(25.5, abs=1e-3)
    assert steady.average == pytest.approx(25.5, abs=1e-3)
    jumpy = Steadiness()
    for value in (0.2, 0.5, 0.2):  # 0.3 of which the sources explain 0.2
        jumpy.add(still, moving[0] + (value - 0.2) * 2 / 3, torch.full((1, 1, 4, 4), value))
    assert jumpy.flicker == pytest.approx(25.5, abs=1e-3) and "flicker 25.500" in jumpy.line()


def test_an_interrupted_or_failing_run_leaves_no_file(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    clip("a.mp4", 6)
    Path("cut.mp4").write_bytes(Path("a.mp4").read_bytes())
    calls = []

    def stop(self, a, b, task="vif", **controls):
        calls.append(1)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return FusionOutput((a + b) / 2)

    monkeypatch.setattr(Average, "forward", stop)
    status, _ = door("predict", "model=average", "device=cpu", "a=a.mp4", "b=cut.mp4", "out=o.mp4")
    assert status == 130 and sorted(path.name for path in Path().iterdir()) == ["a.mp4", "cut.mp4"]


def test_mistakes_are_answered_by_one_line(door: Door) -> None:
    clip("a.mp4", 2)
    Image.fromarray(np.zeros((48, 64), np.uint8)).save("ir.png")
    Path("stub.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\0" * 200)
    Path("dir").mkdir()
    for arguments, line in (
        (["a=stub.mp4", "b=a.mp4", "out=o.mp4"], "stub.mp4: cannot be read as a video"),
        (["a=a.mp4", "b=ir.png", "out=o.mp4"], "b=ir.png is no video and a.mp4 is one: give two videos"),
        (["a=a.mp4", "b=dir", "out=o.mp4"], "b=dir is no video"),
        (["a=a.mp4", "b=a.mp4", "out=o.png"], "a and b are videos, so out is one too"),
        (["a=a.mp4", "b=a.mp4", "out=a.mp4"], "out=a.mp4: is a source"),
        (["a=a.mp4", "b=a.mp4", "out=o.mpg"], "'.mpg' cannot be written"),
        (["a=a.mp4", "b=a.mp4", "out=o.mp4", "codec=ffv1"], "codec=ffv1: does not go into .mp4"),
        (["a=a.mp4", "b=a.mp4", "out=o.mp4", "codec=x264"], "codec=x264: expected auto, h264"),
        (["a=a.mp4", "b=a.mp4", "out=o.mp4", "crf=99"], "crf=99: expected a number from 0 to 63"),
        (["a=nope.mp4", "b=a.mp4", "out=o.mp4"], "a=nope.mp4: no such file"),
    ):
        text = refused(door, *arguments)
        assert text.startswith("error: ") and line in text, text
    assert not Path("o.mp4").exists()
    status, text = door("predict", "model=average", "device=cpu", "sources=a.mp4", "out=o.png")
    assert status == 1 and "a.mp4: a video, not an image; predict fuses two videos" in text


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    clip("a.mp4", 1)

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(video, "import_module", missing)
    with pytest.raises(ConfigError, match=r"image-fusion\[video\]"):
        Video("a.mp4")


def test_containers_have_their_codecs() -> None:
    assert choose_codec(Path("o.mp4"), "auto", False) == "h264"
    assert choose_codec(Path("o.mp4"), "auto", True) == "hevc"
    assert choose_codec(Path("o.webm"), "auto", True) == "vp9"
    with pytest.raises(ConfigError, match="is no video"):
        choose_codec(Path("o.png"), "auto", False)


def test_a_damaged_end_is_named(here: Path) -> None:
    clip("a.mkv", 30, codec="ffv1")
    whole = Path("a.mkv").read_bytes()
    Path("empty.mkv").write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"empty.mkv: (cannot be read as a video|has no video stream|no frame)"):
        list(Video("empty.mkv").frames())
    assert Video("a.mkv").rate == Fraction(25)
