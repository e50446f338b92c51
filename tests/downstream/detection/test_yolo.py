"""The adapter of ultralytics, with a stand-in for the package: it is AGPL-3.0, optional, and not installed here."""

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from fusion.downstream.detection import YOLO, DetectorTraining
from fusion.downstream.detection.yolo import GRAY, fitted, letterbox
from fusion.downstream.tasks import FrozenTask
from fusion.errors import ConfigError, WeightsError

BOXES = [torch.tensor([[10.0, 4.0, 30.0, 24.0]]), torch.zeros(0, 4)]
LABELS = [torch.tensor([1]), torch.zeros(0, dtype=torch.long)]


class StandIn(nn.Module):
    """As ultralytics' DetectionModel: raw outputs in training, and decoded ones before them else."""

    def __init__(self, cfg, ch, nc, verbose):
        super().__init__()
        if cfg == "unknown.yaml":
            raise FileNotFoundError("'unknown.yaml' does not exist")
        head = nn.Conv2d(ch, 4 + nc, 32, stride=32)
        if cfg == "yolo26n.yaml":
            head.one2one_cv2 = nn.Identity()
        self.model, self.stride = nn.Sequential(head), torch.tensor([8.0, 16.0, 32.0])
        self.decoded = None

    def forward(self, images):
        raw = self.model(images).flatten(2)
        self.seen = images
        return raw if self.training else (raw if self.decoded is None else self.decoded, raw)

    def load(self, trained, verbose):
        self.load_state_dict(trained)


class Loss:
    """As v8DetectionLoss, but only remembers what it was given."""

    targets = None

    def __init__(self, model):
        self.gain = model.args.box

    def __call__(self, predictions, targets):
        Loss.targets = targets
        raw = predictions[1] if isinstance(predictions, tuple) else predictions
        return self.gain * raw.square().mean((0, 2))[:3], None


def opened(name):
    if name == "missing.pt":
        raise FileNotFoundError("no missing.pt\nand more")
    return SimpleNamespace(model={k: torch.ones_like(v) for k, v in StandIn("x", 3, 2, False).state_dict().items()})


@pytest.fixture
def ultralytics(monkeypatch):
    modules = {name: ModuleType(name) for name in ("ultralytics", "ultralytics.nn", "ultralytics.utils")}
    modules["ultralytics"].YOLO = opened
    modules["ultralytics.nn.tasks"] = SimpleNamespace(DetectionModel=StandIn)
    modules["ultralytics.utils.loss"] = SimpleNamespace(v8DetectionLoss=Loss)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def test_without_the_package_one_line_names_the_extra(monkeypatch, door, tmp_path):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    line = r"^YOLO needs ultralytics \(AGPL-3\.0\): pip install 'image-fusion\[yolo\]'"
    with pytest.raises(ConfigError, match=line) as said:
        YOLO(num_classes=2)
    assert "\n" not in str(said.value)
    status, output = door("train", "experiment=toar/yolo_m3fd", f"run_dir={tmp_path / 'run'}", "logger=none")
    assert status == 2 and "pip install 'image-fusion[yolo]', or take model=faster_rcnn" in output


@pytest.mark.parametrize("longer", [None, 64, 160])
def test_images_fit_the_strides_and_boxes_come_back(ultralytics, longer):
    size = (60, 90)
    scale, inner = fitted(size, longer, 32)
    images = letterbox(torch.rand(1, 3, *size), longer, 32)
    assert images.shape[-2:] == inner and all(side % 32 == 0 for side in inner)
    assert max(size) * scale == pytest.approx(longer or max(size))
    below = round(size[0] * scale)
    assert images[..., below:, :].eq(GRAY).all() and images[..., :below, : round(size[1] * scale)].ne(GRAY).any()
    detector = YOLO(num_classes=2, size=longer).eval()
    detector.losses(detector.features(torch.rand(2, 3, *size)), size, BOXES, LABELS)
    targets = Loss.targets
    assert targets["batch_idx"].tolist() == [0] and targets["cls"].tolist() == [1]
    centre, sides = targets["bboxes"][0, :2], targets["bboxes"][0, 2:]
    extent = torch.tensor(inner[::-1])
    torch.testing.assert_close(centre * extent / scale, torch.tensor([20.0, 14.0]))
    torch.testing.assert_close(sides * extent / scale, torch.tensor([20.0, 20.0]))
    found = torch.cat([centre * extent, sides * extent, torch.tensor([0.2, 0.9])])  # as the network decodes it
    detector.model.decoded = torch.stack([found, found.new_zeros(6)], dim=1).expand(2, 6, 2)
    for image in detector.detect(detector.features(torch.rand(2, 3, *size)), size):
        torch.testing.assert_close(image["boxes"], BOXES[0].expand(2, 4))
        assert image["labels"].tolist() == [1, 0] and image["scores"].tolist() == pytest.approx([0.9, 0.2])


def test_overlapping_boxes_of_one_class_are_one(ultralytics):
    detector = YOLO(num_classes=2, size=None, detections=2).eval()
    boxes = torch.tensor([[16.0, 16, 20, 20], [17, 16, 20, 20], [50, 40, 20, 20], [90, 40, 30, 20]]).T
    scores = torch.tensor([[0.8, 0.9, 0.5, 0.4], [0.0, 0.0, 0.0, 0.0]])
    detector.model.decoded = torch.cat([boxes, scores])[None]
    (image,) = detector.detect(detector.features(torch.rand(1, 3, 64, 96)), (64, 96))
    assert image["boxes"].tolist() == [[7, 6, 27, 26], [40, 30, 60, 50]], "the best of two, and at most two in all"


def test_frozen_it_passes_gradients_to_the_images(ultralytics):
    model = DetectorTraining(["x", "y"], partial(YOLO, size=64))
    batch = {"a": torch.rand(2, 3, 60, 90), "task": "vif", "name": ["0", "1"], "boxes": BOXES, "labels": LABELS}
    images = batch["a"].clone().requires_grad_()
    loss = FrozenTask(model, 2.0).losses(images, batch)["yolo"]
    loss.backward()
    assert images.grad.abs().sum() > 0 and all(p.grad is None for p in model.parameters())
    assert loss.item() == pytest.approx(2 * model.train().image_losses(batch["a"], batch)["yolo"].item(), rel=1e-5)
    half = partial(YOLO, size=64, box=3.75)(num_classes=2)
    half.load_state_dict(model.network.state_dict())
    quarter = half.losses(half.features(batch["a"]), (60, 90), BOXES, LABELS)["yolo"]
    assert quarter.item() == pytest.approx(loss.item() / 4)


def test_weights_and_architectures_that_are_not_there(ultralytics):
    detector = YOLO(num_classes=2, weights="there.pt")
    detector.load_pretrained()
    assert all((value == 1).all() for value in detector.state_dict().values())
    with pytest.raises(WeightsError, match=r"weights 'missing\.pt' could not be had \(no missing\.pt\)"):
        YOLO(num_classes=2, weights="missing.pt").load_pretrained()
    with pytest.raises(ConfigError, match="architecture=unknown: ultralytics does not know it"):
        YOLO(num_classes=2, architecture="unknown")
    with pytest.raises(ConfigError, match="yolo26n has an end-to-end head"):
        YOLO(num_classes=2, architecture="yolo26n")
