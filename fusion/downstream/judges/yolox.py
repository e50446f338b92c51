"""YOLOX-Nano (Ge et al., 2021) through onnxruntime: `pip install 'image-fusion[judges]'`.

Apache-2.0, yolox_nano.onnx of its releases.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import batched_nms, box_convert, clip_boxes_to_image

from fusion.errors import ConfigError, WeightsError

GRAY = 114
STRIDES = (8, 16, 32)


class YOLOXNano(nn.Module):
    """Detects, but has no gradients: a judge, not a task network.

    Args:
        num_classes: 80, as exported.
        score_threshold, nms_threshold, detections: of what is returned per image (released evaluation: 0.01, 0.65).

    Raises:
        ConfigError: onnxruntime is not installed.
    """

    def __init__(
        self, num_classes: int = 80, score_threshold: float = 0.01, nms_threshold: float = 0.65, detections: int = 100
    ) -> None:
        super().__init__()
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(
                "YOLOX-Nano needs onnxruntime: pip install 'image-fusion[judges]', or take FastestDet"
            ) from error
        self._runtime: Any = onnxruntime
        self._session: Any = None
        self.num_classes, self.score_threshold = num_classes, score_threshold
        self.nms_threshold, self.detections = nms_threshold, detections

    def open(self, path: Path) -> None:
        """Read the exported network.

        Raises:
            WeightsError: not an ONNX file of this network.
        """
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            session = self._runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime has kinds of its own
            raise WeightsError(f"{path}: not a readable ONNX file ({str(error).splitlines()[0]})") from error
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or outputs[0].shape[-1] != 5 + self.num_classes:
            raise WeightsError(f"{path}: expected one image in and (N, {5 + self.num_classes}) out, as yolox_nano.onnx")
        self._session, self.side = session, int(inputs[0].shape[-1])

    def features(self, images: Tensor) -> tuple[Tensor, float]:
        """Raw outputs `(B, N, 85)` of RGB images `(B, 3, H, W)` in [0, 1], and the scale they were resized by.

        Raises:
            WeightsError: no network was opened.
        """
        if self._session is None:
            raise WeightsError("YOLOX-Nano has no network yet: give weights=yolox_nano.onnx")
        height, width = images.shape[-2:]
        scale = self.side / max(height, width)
        sides = [round(height * scale), round(width * scale)]
        resized = F.interpolate(images, sides, mode="bilinear", align_corners=False).flip(1) * 255  # BGR in 0..255
        padded = F.pad(resized, (0, self.side - sides[1], 0, self.side - sides[0]), value=GRAY)
        name = self._session.get_inputs()[0].name
        found = [self._session.run(None, {name: image[None].cpu().numpy()})[0] for image in padded.float()]
        return torch.from_numpy(np.concatenate(found)).to(images.device), scale

    def detect(self, features: tuple[Tensor, float], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """Per image `boxes` `(n, 4)` xyxy in pixels, `scores` and `labels` `(n,)`."""
        raw, scale = features
        grid, stride = _grid(self.side)
        found = []
        for image in raw:
            centres, extents = (image[:, :2] + grid) * stride, image[:, 2:4].exp() * stride
            boxes = box_convert(torch.cat([centres, extents], dim=1), "cxcywh", "xyxy") / scale
            best, labels = image[:, 5:].max(1)
            scores = image[:, 4] * best
            kept = scores > self.score_threshold
            boxes, scores, labels = boxes[kept], scores[kept], labels[kept]
            chosen = batched_nms(boxes, scores, labels, self.nms_threshold)[: self.detections]
            boxes = clip_boxes_to_image(boxes[chosen], size)
            found.append({"boxes": boxes, "scores": scores[chosen], "labels": labels[chosen]})
        return found

    def losses(self, *_: Any) -> dict[str, Tensor]:
        """There are none.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            "YOLOX-Nano runs without gradients and cannot train T-OAR: take FastestDet as the task network"
        )

    def load_pretrained(self) -> None:
        """Nothing: the weights are given with the judge."""


def _grid(side: int) -> tuple[Tensor, Tensor]:
    """Cell `(N, 2)` and stride `(N, 1)` of every output."""
    cells, strides = [], []
    for stride in STRIDES:
        count = side // stride
        y, x = torch.meshgrid(torch.arange(count), torch.arange(count), indexing="ij")
        cells.append(torch.stack([x.flatten(), y.flatten()], dim=1))
        strides.append(torch.full((count * count, 1), stride))
    return torch.cat(cells), torch.cat(strides)
