"""Colour profiles (ICC): whether two are the same, and converting a picture from one to another."""

import functools
from dataclasses import replace

import numpy as np

from fusion.data.files.metadata import profile_name
from fusion.data.files.raster import Raster
from fusion.errors import DataError


def same_profile(a: bytes | None, b: bytes | None) -> bool:
    """Whether two profiles mean the same colours; None is sRGB."""
    return (
        a == b
        or (_is_srgb(a) and _is_srgb(b))
        or (a is not None and b is not None and profile_name(a) == profile_name(b))
    )


def convert(raster: Raster, source: bytes | None, target: bytes | None) -> Raster:
    """A colour picture in another profile, at its own depth; None is sRGB.

    Raises:
        DataError: a damaged profile.
    """
    import imagecodecs

    planes = raster.planes
    values = np.ascontiguousarray(planes.transpose(1, 2, 0))
    if values.dtype not in (np.uint8, np.uint16, np.float32):
        low, high = raster.limits or (0.0, 1.0)
        values = ((values - low) / (high - low)).astype(np.float32)
    try:
        made = imagecodecs.cms_transform(
            values, source or _srgb(), target or _srgb(), colorspace="rgb", outcolorspace="rgb"
        )
    except Exception as error:  # littlecms has its own kinds
        raise DataError(f"{raster.path or 'picture'}: its colour profile cannot be used ({error})") from error
    made = np.asarray(made)
    if made.dtype != planes.dtype:
        low, high = raster.limits or (0.0, 1.0)
        made = made * (high - low) + low
        made = np.rint(made) if planes.dtype.kind in "ui" else made
    made = np.ascontiguousarray(made.transpose(2, 0, 1)).astype(planes.dtype)
    return replace(raster, planes=made, metadata=replace(raster.metadata, icc=target))


def _is_srgb(icc: bytes | None) -> bool:
    return icc is None or "srgb" in profile_name(icc).lower()


@functools.cache
def _srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
