"""Write results: any depth that the format holds, alpha and metadata kept, never a half-written file."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fusion.data.files import metadata as meta
from fusion.data.files.formats import Format, format_to_write, suffix_of
from fusion.data.files.raster import DEPTHS, Depth, Raster
from fusion.data.files.tiff_writing import write_tiff
from fusion.errors import ConfigError, DataError
from fusion.files import atomic

CHROMA = {"444": "4:4:4", "422": "4:2:2", "420": "4:2:0"}
"""Sub-sampling of the chroma of JPEG and AVIF: none, halved across, halved both ways."""
PNG_LEVEL = 2
"""Of zlib: a third of the default's time, files 4 to 5 % larger."""
WHITE = {"8": 255, "16": 65535, "32": 2**32 - 1}
_TYPES: dict[str, Any] = {"8": np.uint8, "16": np.uint16, "32": np.uint32, "float": np.float32}


@dataclass(frozen=True)
class Compression:
    """How lossy formats are written.

    Attributes:
        quality: of JPEG, WebP and AVIF, 1 to 100; 100 is lossless in WebP.
        chroma: "444", "422" or "420", of JPEG and AVIF.
    """

    quality: int = 95
    chroma: str = "444"

    def __post_init__(self) -> None:
        if not isinstance(self.quality, int) or not 1 <= self.quality <= 100:
            raise ConfigError(f"quality={self.quality}: expected a whole number from 1 to 100")
        object.__setattr__(self, "chroma", str(self.chroma))
        if self.chroma not in CHROMA:
            raise ConfigError(f"chroma={self.chroma}: expected one of {', '.join(CHROMA)}")


def write_raster(path: str | Path, raster: Raster, compression: Compression | None = None) -> tuple[Path, list[str]]:
    """Write a picture under a temporary name and rename it.

    Args:
        path: the ending chooses the format; missing folders are made.
        raster: uint8, uint16, uint32 or float32 planes; what lies deeper than the format holds is scaled by its `limits`.
        compression: of lossy formats.

    Returns:
        The path, and a line for everything that the format could not keep.

    Raises:
        ConfigError: an ending that cannot be written, or more bands than the format holds.
        DataError: a folder that cannot be written, or values that are not finite in an integer format.
    """
    path = Path(path)
    form = format_to_write(path)
    raster, lost = fit_to(raster, form, path)
    encode = _ENCODERS[form.name]
    try:
        with atomic(path) as temporary:
            encode(temporary, raster, compression or Compression(), suffix_of(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror or error}).") from error
    return path, lost


def fit_to(raster: Raster, form: Format, path: Path) -> tuple[Raster, list[str]]:
    """Bring a picture to what a format holds, and say what that costs.

    Raises:
        ConfigError: more bands than the format holds.
    """
    lost = []
    if raster.channels == "bands" and not form.bands:
        raise ConfigError(
            f"{path}: {form.name} holds no more than three bands, the result has {len(raster.planes)}; "
            "write .tif or .npy, or choose three with bands=[3,2,1]"
        )
    if raster.depth not in form.depths:
        order = DEPTHS.index(raster.depth)
        shallower = [depth for depth in form.depths if DEPTHS.index(depth) < order]
        depth = shallower[-1] if shallower else form.depths[0]
        if shallower:
            lost.append(
                f"{path}: {form.name} holds {_said(depth)}, the result has {_said(raster.depth)}; .tif keeps it"
            )
        raster = to_depth(raster, depth)
    elif not form.bands and raster.depth != "float":
        raster = to_depth(raster, raster.depth)
    if raster.alpha is not None and not form.alpha:
        lost.append(f"{path}: {form.name} holds no alpha; .png, .tif and .webp do")
        raster = replace(raster, alpha=None)
    data = raster.metadata
    space = meta.profile_space(data.icc)
    if space is not None and space != {"gray": "GRAY", "rgb": "RGB"}.get(raster.channels):
        data = replace(data, icc=None)
    elif data.icc is not None and "profile" not in form.metadata:
        lost.append(
            f"{path}: {form.name} holds no colour profile ({meta.profile_name(data.icc)}); .png, .jpg and .tif do"
        )
    if data.geo and "geo" not in form.metadata:
        lost.append(f"{path}: {form.name} holds no geo-reference; .tif does")
    return replace(raster, metadata=data), lost


def to_depth(raster: Raster, depth: Depth) -> Raster:
    """Scale values from black to white into another depth."""
    low, high = raster.limits or (0.0, 1.0)
    if raster.depth == depth and raster.planes.dtype == _TYPES[depth] and (low, high) == (0.0, WHITE.get(depth, 1)):
        return raster
    unit = (raster.planes.astype(np.float64) - low) / (high - low)
    if depth == "float":
        return replace(raster, planes=unit.astype(np.float32), limits=(0.0, 1.0))
    white = WHITE[depth]
    planes = np.rint(np.nan_to_num(unit).clip(0, 1) * white).astype(_TYPES[depth])
    return replace(raster, planes=planes, limits=(0.0, float(white)))


def _said(depth: Depth) -> str:
    return "floating point" if depth == "float" else f"{depth} bit"


def _interleaved(raster: Raster) -> np.ndarray:
    """`(H, W)` or `(H, W, C)`, alpha last."""
    planes = raster.planes
    if raster.alpha is not None:
        white = WHITE.get(raster.depth, 1)
        alpha = raster.alpha.astype(np.float64) * white
        alpha = alpha if raster.depth == "float" else np.rint(alpha)
        planes = np.concatenate([planes, alpha.astype(planes.dtype)[None]])
    return planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _by_pillow(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    data = raster.metadata
    image = Image.fromarray(_interleaved(raster))
    name = {".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".bmp": "BMP"}.get(suffix, "JPEG")
    options: dict[str, Any] = {}
    if name != "BMP":
        options |= {key: value for key, value in (("icc_profile", data.icc), ("exif", data.exif)) if value}
    if name in ("JPEG", "WEBP", "AVIF"):
        options["quality"] = how.quality
    if name in ("JPEG", "AVIF"):
        options["subsampling"] = CHROMA[how.chroma]
    if name == "WEBP":
        options |= {"exact": True, "lossless": how.quality == 100}
    if name == "PNG":
        options["compress_level"] = PNG_LEVEL
    if name in ("PNG", "JPEG", "BMP") and data.dpi:
        options["dpi"] = data.dpi
    if name == "JPEG" and data.xmp and len(data.xmp) < 65000:
        options["xmp"] = data.xmp
    if name == "JPEG" and len(data.exif or b"") > 65533:
        options.pop("exif")
    image.save(path, format=name, **options)


def _png(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    if raster.depth == "8":
        return _by_pillow(path, raster, how, suffix)
    import imagecodecs

    encoded = imagecodecs.png_encode(_interleaved(raster))
    header = 8 + 25  # signature, IHDR
    path.write_bytes(encoded[:header] + meta.png_chunks(raster.metadata) + encoded[header:])
    return None


def _netpbm(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    values = _interleaved(raster)
    magic = b"P5" if values.ndim == 2 else b"P6"
    header = b"%s\n%d %d\n%d\n" % (magic, values.shape[1], values.shape[0], WHITE[raster.depth])
    path.write_bytes(header + values.astype(values.dtype.newbyteorder(">")).tobytes())


def _jpeg_2000(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    import imagecodecs

    kind = suffix.lstrip(".")
    path.write_bytes(imagecodecs.jpeg2k_encode(_interleaved(raster), codecformat=kind, reversible=True, level=0))


def _jpeg_xl(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    import imagecodecs

    path.write_bytes(imagecodecs.jpegxl_encode(_interleaved(raster), lossless=True))


def _numpy(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    stream = io.BytesIO()
    np.save(stream, _interleaved(raster))
    path.write_bytes(stream.getvalue())


def _exr(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise DataError(f"{path}: writing OpenEXR needs: python -m pip install 'image-fusion[formats]'") from None
    values = _interleaved(raster)
    names = [*("Y" if raster.channels == "gray" else "RGB"), *("" if raster.alpha is None else "A")]
    stacked = values[..., None] if values.ndim == 2 else values
    channels = {name: np.ascontiguousarray(stacked[..., i]) for i, name in enumerate(names)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(path))


def _hdr(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    import imagecodecs

    values = np.nan_to_num(raster.planes).clip(0, None)
    values = values if len(values) == 3 else np.repeat(values[:1], 3, axis=0)
    path.write_bytes(imagecodecs.rgbe_encode(np.ascontiguousarray(values.transpose(1, 2, 0)), header=True))


def _tiff(path: Path, raster: Raster, how: Compression, suffix: str) -> None:
    write_tiff(path, raster, _interleaved(raster))


_ENCODERS: dict[str, Callable[[Path, Raster, Compression, str], None]] = {
    "PNG": _png, "JPEG": _by_pillow, "TIFF": _tiff, "WebP": _by_pillow, "AVIF": _by_pillow, "BMP": _by_pillow,
    "Netpbm": _netpbm, "JPEG 2000": _jpeg_2000, "JPEG XL": _jpeg_xl, "NumPy": _numpy, "OpenEXR": _exr, "Radiance HDR": _hdr,
}  # fmt: skip
