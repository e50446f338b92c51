"""Stage two against a detector, on a miniature M3FD: the loss falls, the objects are what changes."""

from functools import partial

import pytest
import torch

from fusion.data import M3FD, FusionDataModule
from fusion.downstream.detection import DetectorTraining
from fusion.downstream.tasks import FrozenTask
from fusion.models.toar import TOAR, BaseFusion, DynamicPrompt
from fusion.models.toar.text import HashedText

DETECTOR = {"backbone": "resnet18", "frozen_stages": 0, "norm": "group", "channels": 8, "hidden": 16}
DETECTOR |= {"anchors": [8, 12, 16, 24, 32], "proposals": [30, 10], "rpn_samples": 32, "roi_samples": 16}
CLASSES = ["People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"]
NETWORK = {"blocks": 2, "channels": 4}


@pytest.fixture(scope="module")
def data(labelled_dir):
    m3fd = partial(M3FD, labelled_dir / "M3FD", group="detection", instruction="detection", labels=True, transform=None)
    options = {"batch_size": 6, "crop_size": None, "hflip": 0.0, "num_workers": 0, "tasks": ["detection"]}
    return FusionDataModule(train={"m3fd": m3fd(limit=6)}, epoch_by="longest", **options)


@pytest.fixture(scope="module")
def batch(data):
    data.setup("fit")
    return data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)


def descend(parameters, loss, steps, lr):
    optimizer = torch.optim.Adam(parameters, lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


def test_detection_is_served(data, batch, quick_trainer, tmp_path):
    torch.manual_seed(0)
    base = BaseFusion(NETWORK).train()
    descend(base.parameters(), lambda: sum(base.losses(base(batch["a"], batch["b"]), batch).values()), 60, 3e-3)
    torch.save(base.state_dict(), tmp_path / "base.pth")
    base.eval()
    inside = torch.zeros(6, *batch["a"].shape[-2:], dtype=torch.bool)
    for image, boxes in zip(inside, batch["boxes"], strict=True):
        for x0, y0, x1, y1 in boxes.int().tolist():
            image[y0:y1, x0:x1] = True
    module = DetectorTraining(CLASSES, DETECTOR)
    with torch.no_grad():  # the detector knows brighter objects, so that there is something to tailor
        images = (base(batch["a"], batch["b"]).fused + 0.3 * inside[:, None]).clamp(0, 1)
    descend(module.parameters(), lambda: sum(module.image_losses(images, batch).values()), 80, 1e-3)
    frozen = FrozenTask(module, weight=2.0)
    model = TOAR(
        partial(DynamicPrompt, hidden=32), HashedText(64), {"detection": ["object detection task"]}, NETWORK, adapted_dim=16,
        base_weights=str(tmp_path / "base.pth"), task_networks={"detection": lambda: frozen},
        optimizer=partial(torch.optim.Adam, lr=3e-3), eval_metrics=(),
    )  # fmt: skip
    quick_trainer(80, limit_val_batches=0, gradient_clip_val=0.5).fit(model, data)

    plain, tailored = (
        model.fuse(batch["a"], batch["b"], instruction=text).fused.clone() for text in ("none", "detection")
    )
    losses, precision = {}, {}
    for name, fused in (("plain", plain), ("tailored", tailored)):
        torch.manual_seed(0)  # proposals are sampled: the mean over some draws
        losses[name] = sum(float(sum(frozen.losses(fused, batch).values())) for _ in range(4)) / 4
        scores = module.scores()
        scores.add(module.predict_images(fused), batch)
        precision[name] = scores.compute()["mAP50-95"]
    assert losses["tailored"] < 0.8 * losses["plain"], losses
    assert precision["tailored"] >= precision["plain"], precision
    change = (tailored - plain).abs().mean(1)
    assert change[inside].mean() > change[~inside].mean() > 0
    print(losses, precision, float(change[inside].mean()), float(change[~inside].mean()))
