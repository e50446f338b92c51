"""The table of file formats in docs/formats.md, made by writing and reading a file of every kind.

`python -m fusion.data.files.table` writes the document.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image, ImageCms

from fusion.data.files.formats import FORMATS, WRITABLE, Format
from fusion.data.files.raster import Depth, Metadata, Raster
from fusion.data.files.reading import read_raster
from fusion.data.files.writing import WHITE, Compression, write_raster
from fusion.errors import FusionError
from fusion.files import markdown, write_text

_HEAD = """# File formats

Which files are read and written, at which depth, and what of the metadata of source `a` a result keeps. Made by
writing and reading a file of every kind: `python -m fusion.data.files.table`; a test compares it with what the code
does.

"""

_FOOT = """
Depths are bits per channel of unsigned integers; "float" is 32-bit floating point. Signed integers, 16 and 64-bit
floating point and 1 to 12-bit TIFF are read as well. "bands": more than three planes are measured bands, fused one by
one (`bands=auto`). NIfTI is read slice by slice (`page=N`; the middle one by default), the first stored row on top,
as in FITS. OpenEXR and Radiance HDR hold linear light, which is taken as it is. An orientation in EXIF is applied
once, to the pixels, and not repeated. The packages of the last column come with
`python -m pip install 'image-fusion[formats]'`.

Refused by name: HEIC, camera raw files, DICOM, Photoshop, PDF, HDF5 and Matlab files. Videos: `predict`
fuses two of them ([fusing.md](fusing.md#videos)).
"""


def format_table(folder: Path | None = None) -> str:
    """The document's text.

    Args:
        folder: for files that are written on the way; None: a temporary one.
    """
    if folder is None:
        with tempfile.TemporaryDirectory() as temporary:
            return format_table(Path(temporary))
    rows = [_row(form, folder) for form in FORMATS]
    header = ["format", "endings", "read", "written", "alpha", "metadata kept", "needs"]
    return _HEAD + markdown(header, rows) + _FOOT


def _row(form: Format, folder: Path) -> list[str]:
    suffix = form.suffixes[0]
    read = [depth for depth in ("8", "16", "32", "float") if _reads(form, suffix, depth, folder)]  # type: ignore[arg-type]
    written = [depth for depth in ("8", "16", "32", "float") if _writes(suffix, depth, folder)]  # type: ignore[arg-type]
    bands = " (bands)" if form.bands and _keeps_bands(suffix, folder) else ""
    return [
        form.name,
        " ".join(form.suffixes),
        ", ".join(read) + bands,
        ", ".join(written) + bands if written else "-",
        "yes" if written and _keeps_alpha(suffix, folder) else "-",
        ", ".join(_kept(suffix, folder)) or "-" if written else "-",
        form.package or "-",
    ]


def _sample(depth: Depth, count: int = 3) -> Raster:
    white = float(WHITE.get(depth, 1))
    values = np.linspace(0, white, count * 6 * 8).reshape(count, 6, 8)
    kind: Any = {"8": np.uint8, "16": np.uint16, "32": np.uint32, "float": np.float32}[depth]
    return Raster(values.astype(kind), {1: "gray", 3: "rgb"}.get(count, "bands"), (0.0, white))  # type: ignore[arg-type]


def _writes(suffix: str, depth: Depth, folder: Path) -> bool:
    """Whether a result of this depth comes back at this depth and close to what it was."""
    if suffix not in WRITABLE:
        return False
    sample = _sample(depth)
    try:
        back = read_raster(write_raster(folder / f"sample{suffix}", sample, Compression(100))[0])
    except FusionError:
        return False
    white = float(WHITE.get(depth, 1))
    near = np.abs(back.planes.astype(float) - sample.planes).mean() < 0.03 * white
    return back.planes.dtype == sample.planes.dtype and bool(near)


def _reads(form: Format, suffix: str, depth: Depth, folder: Path) -> bool:
    if suffix in WRITABLE:
        return _writes(suffix, depth, folder)
    maker = {"GIF": _gif, "NIfTI": _nifti, "FITS": _fits}[form.name]
    sample = _sample(depth, 1)
    path = folder / f"sample{suffix}"
    try:
        maker(path, sample.planes[0])
        back = read_raster(path).planes[0]
    except (FusionError, OSError, TypeError, ValueError, KeyError):
        return False
    return back.dtype == sample.planes.dtype and bool(np.allclose(back, sample.planes[0], rtol=1e-6))


def _gif(path: Path, values: np.ndarray) -> None:
    if values.dtype != np.uint8:
        raise TypeError
    Image.fromarray(values).save(path)


def _nifti(path: Path, values: np.ndarray) -> None:
    import nibabel

    nibabel.Nifti1Image(np.ascontiguousarray(values.T[..., None]), np.eye(4)).to_filename(path)


def _fits(path: Path, values: np.ndarray) -> None:
    from astropy.io import fits

    fits.writeto(path, values, overwrite=True)


def _keeps_alpha(suffix: str, folder: Path) -> bool:
    depth: Depth = "float" if suffix in (".exr", ".hdr") else "8"
    sample = _sample(depth)
    alpha = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    with_alpha = Raster(sample.planes, sample.channels, sample.limits, alpha=alpha)
    back = read_raster(write_raster(folder / f"alpha{suffix}", with_alpha, Compression(100))[0])
    return back.alpha is not None and bool(np.abs(back.alpha - alpha).max() < 0.02)


def _keeps_bands(suffix: str, folder: Path) -> bool:
    sample = _sample("8", 5)
    back = read_raster(write_raster(folder / f"bands{suffix}", sample)[0])
    return np.array_equal(back.planes, sample.planes)


def _kept(suffix: str, folder: Path) -> list[str]:
    """Which parts of the metadata can be read back from a result."""
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    exif.get_ifd(0x8825)[1] = "N"
    exif[0x8825] = exif.get_ifd(0x8825)
    geo = ((33550, 12, 3, (2.0, 2.0, 0.0)),)
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    metadata = Metadata(icc=icc, exif=exif.tobytes(), dpi=(300.0, 300.0), geo=geo)
    depth: Depth = "float" if suffix in (".exr", ".hdr") else "8"
    sample = _sample(depth)
    path, _ = write_raster(folder / f"meta{suffix}", Raster(sample.planes, "rgb", sample.limits, metadata=metadata))
    checks: dict[str, Callable[[Metadata], bool]] = {
        "profile": lambda found: found.icc == icc,
        "EXIF with GPS": lambda found: b"Camera" in (found.exif or b""),
        "resolution": lambda found: found.dpi is not None and abs(found.dpi[0] - 300) < 1,
        "geo-reference": lambda found: bool(found.geo),
    }
    try:
        found = read_raster(path).metadata
    except (FusionError, tifffile.TiffFileError):
        return []
    return [name for name, check in checks.items() if check(found)]


if __name__ == "__main__":
    print(write_text(Path("docs/formats.md"), format_table()))
