"""Which file formats can be read and written, at what depth and with what metadata."""

from dataclasses import dataclass
from pathlib import Path

from fusion.data.files.raster import Depth
from fusion.errors import ConfigError


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: what people call it.
        suffixes: file endings, lower case; the first is the usual one.
        depths: depths that can be written, shallowest first; empty where results cannot be written in it.
        alpha: whether a result keeps its alpha.
        metadata: what of the metadata a result keeps: "profile", "exif" (with GPS), "dpi", "geo".
        package: what reading or writing needs beside the core.
        bands: whether more than three planes can be written, and values in the units of the sources: the others are made to
            be looked at, and their values fill the range.
    """

    name: str
    suffixes: tuple[str, ...]
    depths: tuple[Depth, ...] = ()
    alpha: bool = False
    metadata: tuple[str, ...] = ()
    package: str = ""
    bands: bool = False


FORMATS = (
    Format("PNG", (".png",), ("8", "16"), True, ("profile", "exif", "dpi")),
    Format("JPEG", (".jpg", ".jpeg", ".jfif", ".jpe"), ("8",), False, ("profile", "exif", "dpi")),
    Format("TIFF", (".tif", ".tiff"), ("8", "16", "32", "float"), True, ("profile", "exif", "dpi", "geo"), bands=True),
    Format("WebP", (".webp",), ("8",), True, ("profile", "exif")),
    Format("AVIF", (".avif",), ("8",), True, ("profile", "exif")),
    Format("BMP", (".bmp",), ("8",), False, ("dpi",)),
    Format("Netpbm", (".ppm", ".pgm", ".pnm", ".pbm"), ("8", "16")),
    Format("JPEG 2000", (".jp2", ".j2k"), ("8", "16")),
    Format("JPEG XL", (".jxl",), ("8", "16")),
    Format("NumPy", (".npy", ".npz"), ("8", "16", "32", "float"), bands=True),
    Format("OpenEXR", (".exr",), ("float",), True, package="OpenEXR"),
    Format("Radiance HDR", (".hdr", ".pic"), ("float",)),
    Format("GIF", (".gif",)),
    Format("NIfTI", (".nii", ".nii.gz"), package="nibabel"),
    Format("FITS", (".fits", ".fit", ".fts"), package="astropy"),
)
"""All formats; the table in docs/formats.md is made from what they do in a test."""

READABLE = frozenset(suffix for one in FORMATS for suffix in one.suffixes)
"""Endings that count as pictures where users' own folders are listed."""
WRITABLE = tuple(
    suffix for one in FORMATS if one.depths for suffix in one.suffixes if suffix not in (".npz", ".pbm", ".pic")
)
"""Endings that results can be written with."""
VIDEOS = frozenset((".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg"))
"""Endings of videos, which `predict` reads and writes (extra `video`)."""
OTHER_PICTURES = (
    frozenset(
        (
            ".heic",
            ".heif",
            ".cr2",
            ".cr3",
            ".nef",
            ".arw",
            ".dng",
            ".raf",
            ".orf",
            ".rw2",
            ".psd",
            ".svg",
            ".pdf",
            ".ico",
        )
    )
    | frozenset((".tga", ".dcm", ".h5", ".mat"))
    | VIDEOS
)
"""Endings of picture-like files that cannot be read, to be told from names of folders."""

_BY_SUFFIX = {suffix: one for one in FORMATS for suffix in one.suffixes}


def suffix_of(path: Path) -> str:
    """Ending of a file name in lower case, `.nii.gz` whole."""
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def stem_of(path: Path) -> str:
    """File name without its ending, `.nii.gz` whole."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def is_readable(path: Path) -> bool:
    """Whether a file's ending is that of a picture that can be read."""
    return suffix_of(path) in READABLE


def is_video(path: str | Path) -> bool:
    """Whether a file's ending is that of a video."""
    return suffix_of(Path(path)) in VIDEOS


def format_to_write(path: Path) -> Format:
    """The format that a result's ending stands for.

    Raises:
        ConfigError: none, or one that cannot be written.
    """
    suffix = suffix_of(path)
    if suffix not in WRITABLE:
        what = f"'{suffix}' cannot be written" if suffix else "a file needs an ending"
        raise ConfigError(f"{path}: {what}; use one of {' '.join(WRITABLE)}")
    return _BY_SUFFIX[suffix]
