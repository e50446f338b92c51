"""Warp the second source onto the first where they do not lie on top of each other: ECC or features, by OpenCV.

ECC is the enhanced correlation coefficient of Evangelidis and Psarakis (TPAMI 2008), here on edge strength, which cameras of
different kinds share where they share no grey levels; from coarse to fine. Features are SIFT matched and fitted with RANSAC.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fusion.data.files.raster import Raster
from fusion.data.transforms.alignment import alignment, edge_orientation
from fusion.errors import ConfigError, DataError

METHODS = ("none", "ecc", "features")
MOTIONS = ("translation", "rigid", "affine", "homography")
_SIDE = 512


def check_register(method: Any, motion: str) -> str:
    """Refuse unknown methods and motions.

    Raises:
        ConfigError: names what is known.
    """
    method = "none" if method in (None, False) else str(method)
    if method not in METHODS:
        raise ConfigError(f"register={method}: expected one of {', '.join(METHODS)}")
    if motion not in MOTIONS:
        raise ConfigError(f"motion={motion}: expected one of {', '.join(MOTIONS)}")
    return method


def register_raster(
    fixed: Raster, moving: Raster, method: str = "ecc", motion: str = "affine"
) -> tuple[Raster, list[str]]:
    """Warp `moving` onto `fixed`, both of one size.

    Args:
        fixed: the source that stays.
        moving: the source that is warped; what it does not reach has no data afterwards.
        method: "ecc" or "features"; "none" changes nothing.
        motion: "translation", "rigid" (rotation and translation), "affine" or "homography".

    Returns:
        The warped picture, and what happened in words. A warp that does not improve the alignment is not applied, and said.

    Raises:
        DataError: OpenCV is missing.
    """
    if method == "none":
        return moving, []
    matrix, said = find_warp(fixed, moving, method, motion)
    return moving if matrix is None else warp(moving, matrix), said


def find_warp(fixed: Raster, moving: Raster, method: str, motion: str) -> tuple[np.ndarray | None, list[str]]:
    """The matrix for `warp` that brings `moving` onto `fixed`, None where none improves the alignment, and that in words.

    Raises:
        DataError: OpenCV is missing.
    """
    name = str(moving.path or "the second source")
    first, second = _gray(fixed), _gray(moving)
    scale = min(1.0, _SIDE / max(first.shape))
    matrix = _ecc(first, second, motion, scale) if method == "ecc" else _features(first, second, motion)
    if matrix is None:
        return None, [f"warning: {name}: register={method} found no {motion} that fits; it is used as it is"]
    before, after = agreement(first, second, np.eye(3)), agreement(first, second, matrix)
    if after <= before:
        return None, [
            f"warning: {name}: register={method} did not improve the alignment (agreement of edges {before:.3f}, then "
            f"{after:.3f}); it is used as it is"
        ]
    corner = matrix @ np.array([fixed.size[1] / 2, fixed.size[0] / 2, 1.0])
    shift = corner[:2] / corner[2] - np.array([fixed.size[1] / 2, fixed.size[0] / 2])
    return matrix, [
        f"{name}: registered by {method} ({motion}), moved by ({-shift[0]:.1f}, {-shift[1]:.1f}) pixels at the centre; "
        f"agreement of edges {before:.3f} before, {after:.3f} after"
    ]


def warp(raster: Raster, matrix: np.ndarray) -> Raster:
    """Warp a picture: the value at (x, y) is taken from `matrix @ (x, y, 1)`; outside there is no data."""
    cv2 = _opencv()
    height, width = raster.size
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP

    def moved(values: np.ndarray) -> np.ndarray:
        return cv2.warpPerspective(np.ascontiguousarray(values), matrix, (width, height), flags=flags)

    working = np.float64 if raster.planes.dtype.itemsize > 4 or raster.planes.dtype == np.uint32 else np.float32
    planes = np.stack([moved(np.nan_to_num(plane.astype(working))) for plane in raster.planes])
    planes = (np.rint(planes) if raster.planes.dtype.kind in "ui" else planes).astype(raster.planes.dtype)
    mask = np.ones(raster.size, np.float32) if raster.valid is None else raster.valid.astype(np.float32)
    valid = moved(mask) > 0.999
    alpha = None if raster.alpha is None else moved(raster.alpha)
    metadata = replace(raster.metadata, geo=())
    return replace(raster, planes=planes, valid=None if valid.all() else valid, alpha=alpha, metadata=metadata)


def _gray(raster: Raster) -> np.ndarray:
    """`(H, W)` float32 in [0, 1] by the picture's own extremes; 0 where there is no data."""
    values = np.nan_to_num(raster.planes.astype(np.float32)).mean(0)
    inside = values if raster.valid is None else values[raster.valid]
    low, high = np.percentile(inside, (0.5, 99.5)) if inside.size else (0.0, 1.0)
    scaled = ((values - low) / max(float(high - low), 1e-9)).clip(0, 1) * 0.99 + 0.01
    return scaled if raster.valid is None else np.where(raster.valid, scaled, 0).astype(np.float32)


def _edges(gray: np.ndarray) -> np.ndarray:
    cv2 = _opencv()
    smooth = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), 1.0)
    strength = np.hypot(cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1))
    return (strength / (strength + np.percentile(strength, 80) + 1e-6)).astype(np.float32)


def _ecc(a: np.ndarray, b: np.ndarray, motion: str, scale: float) -> np.ndarray | None:
    """Search rotations and scales coarsely by the alignment of edge orientations, then refine by ECC of edge strength."""
    cv2 = _opencv()
    kinds = {
        "translation": cv2.MOTION_TRANSLATION, "rigid": cv2.MOTION_EUCLIDEAN, "affine": cv2.MOTION_AFFINE,
        "homography": cv2.MOTION_HOMOGRAPHY,
    }  # fmt: skip
    matrix = _search(a, b, motion)
    if matrix is None:
        return None
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 1e-5)
    best, kept = agreement(a, b, matrix), matrix
    steps = [(scale / 2, "affine" if motion == "homography" else motion), (scale, motion)]
    for level, kind in steps:
        size = [max(16, round(side * level)) for side in a.shape]
        small = [_edges(cv2.resize(x, (size[1], size[0]), interpolation=cv2.INTER_AREA)) for x in (a, b)]
        zoom = np.diag([size[1] / a.shape[1], size[0] / a.shape[0], 1.0])
        here = zoom @ kept @ np.linalg.inv(zoom)
        given = (here / here[2, 2] if kind == "homography" else here[:2]).astype(np.float32)
        try:
            _, given = cv2.findTransformECC(small[0], small[1], given, kinds[kind], stop, None, 5)
        except cv2.error:  # it did not converge at this level
            continue
        here = given if given.shape == (3, 3) else np.vstack([given, [0, 0, 1]])
        refined = np.linalg.inv(zoom) @ here.astype(np.float64) @ zoom
        value = agreement(a, b, refined) if _sane(refined, a.shape) else -1.0
        if value > best:
            best, kept = value, refined
    return kept if _sane(kept, a.shape) else None


def _search(a: np.ndarray, b: np.ndarray, motion: str) -> np.ndarray | None:
    """The best of some rotations and scales about the centre, each with the displacement that fits it best."""
    cv2 = _opencv()
    zoom = min(1.0, 160 / max(a.shape))
    size = (max(16, round(a.shape[1] * zoom)), max(16, round(a.shape[0] * zoom)))
    first, second = (cv2.resize(x, size, interpolation=cv2.INTER_AREA) for x in (a, b))
    tried: dict[tuple[float, float], tuple[float, np.ndarray]] = {}

    def attempt(angle: float, factor: float) -> None:
        turn = np.vstack([cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), angle, factor), [0, 0, 1]])
        moved = cv2.warpPerspective(second, turn, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        where = alignment(first[None], np.where(moved > 0, moved, moved[moved > 0].mean())[None], reach=0.3)
        shift = np.array([[1, 0, where.dx], [0, 1, where.dy], [0, 0, 1.0]])
        tried[(angle, factor)] = (agreement(first, second, turn @ shift), turn @ shift)

    angles = (0.0,) if motion == "translation" else (-8.0, -4.0, 0.0, 4.0, 8.0)
    factors = (1.0,) if motion in ("translation", "rigid") else (0.92, 1.0, 1.08)
    for angle in angles:
        for factor in factors:
            attempt(angle, factor)
    for step in (0.5, 0.25):
        angle, factor = max(tried, key=lambda key: tried[key][0])
        for turn in (0.0,) if len(angles) == 1 else (-4 * step, 0.0, 4 * step):
            for grow in (0.0,) if len(factors) == 1 else (-0.08 * step, 0.0, 0.08 * step):
                if (angle + turn, factor + grow) not in tried:
                    attempt(angle + turn, factor + grow)
    value, matrix = max(tried.values(), key=lambda found: found[0])
    if value <= 0:
        return None
    small = np.diag([size[0] / a.shape[1], size[1] / a.shape[0], 1.0])
    return np.linalg.inv(small) @ matrix @ small


def agreement(a: np.ndarray, b: np.ndarray, matrix: np.ndarray) -> float:
    """Correlation of edge orientations of `a` and of `b` warped onto it, where both are; 0 for no relation, 1 for equality."""
    cv2 = _opencv()
    size = (a.shape[1], a.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpPerspective(b, matrix, size, flags=flags)
    inside = cv2.warpPerspective((b > 0).astype(np.float32), matrix, size, flags=flags) > 0.999
    inside = cv2.erode((inside & (a > 0)).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    if inside.mean() < 0.2:
        return -1.0
    first, second = (edge_orientation(torch.from_numpy(np.ascontiguousarray(x))).numpy() for x in (a, moved))
    first, second = first[inside], second[inside]
    norm = np.sqrt((np.abs(first) ** 2).sum() * (np.abs(second) ** 2).sum())
    return float((first.conj() * second).sum().real / norm) if norm > 0 else -1.0


def _features(a: np.ndarray, b: np.ndarray, motion: str) -> np.ndarray | None:
    cv2 = _opencv()
    detector = cv2.SIFT_create(4000)
    points, words = [], []
    for image in (a, b):
        keys, found = detector.detectAndCompute((image * 255).astype(np.uint8), None)
        if found is None or len(keys) < 8:
            return None
        points.append(np.array([key.pt for key in keys], dtype=np.float32))
        words.append(found)
    pairs = cv2.BFMatcher().knnMatch(words[0], words[1], k=2)
    good = [m for m, *rest in pairs if rest and m.distance < 0.8 * rest[0].distance]
    if len(good) < 8:
        return None
    source = points[0][[m.queryIdx for m in good]]
    target = points[1][[m.trainIdx for m in good]]
    if motion == "homography":
        matrix, inliers = cv2.findHomography(source, target, cv2.RANSAC, 3.0)
    elif motion == "affine":
        matrix, inliers = cv2.estimateAffine2D(source, target, ransacReprojThreshold=3.0)
    else:
        matrix, inliers = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=3.0)
    if matrix is None or inliers is None or int(inliers.sum()) < 8:
        return None
    matrix = matrix if matrix.shape == (3, 3) else np.vstack([matrix, [0, 0, 1]])
    if motion == "translation":
        shift = np.median((target - source)[inliers.ravel() > 0], axis=0)
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]], float)
    elif motion == "rigid":
        matrix[:2, :2] /= np.sqrt(max(np.linalg.det(matrix[:2, :2]), 1e-9))
    return matrix if _sane(matrix, a.shape) else None


def _sane(matrix: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Whether a warp keeps the picture's shape roughly: no flips, no collapse, most of it still inside."""
    height, width = shape
    corners = np.array([[0, width, width, 0], [0, 0, height, height], [1, 1, 1, 1]], float)
    moved = matrix @ corners
    if (moved[2] <= 1e-6).any():
        return False
    x, y = moved[0] / moved[2], moved[1] / moved[2]
    area = 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
    return 0.3 < area / (height * width) < 3 and bool(np.abs(np.array([x, y]) - corners[:2]).max() < 0.5 * max(shape))


def _opencv() -> Any:
    try:
        import cv2
    except ModuleNotFoundError:
        raise DataError("register: needs OpenCV: python -m pip install 'image-fusion[register]'") from None
    cv2.setNumThreads(1)
    return cv2
