"""Frozen task networks: gradients reach the images and nothing else changes."""

from types import SimpleNamespace

import pytest
import torch

from fusion.downstream.tasks import DetectionTask, SaliencyTask, SegmentationTask
from fusion.errors import ConfigError, DataError
from fusion.job.config import check, instantiate

DETECTOR = {
    "_target_": "fusion.downstream.detection.DetectorTraining",
    "class_names": ["car"],
    "detector": {"backbone": "resnet18", "norm": "group", "frozen_stages": 0, "channels": 8, "hidden": 16},
}
SEGMENTER = {
    "_target_": "fusion.downstream.segmentation.SegmentationTraining",
    "class_names": ["street", "car"],
    "network": {"_target_": "fusion.downstream.segmentation.PyramidSegmenter", "_partial_": True, "width": 16},
}
SALIENCY = {
    "_target_": "fusion.downstream.saliency.SaliencyTraining",
    "network": {"_target_": "fusion.downstream.saliency.CTDNet", "channels": 8},
    "sizes": [64],
}


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 64, 64, generator=generator) for _ in range(2))
    mask = torch.zeros(2, 64, 64, dtype=torch.long)
    mask[:, 10:40, 20:50] = 1
    boxes, labels = [torch.tensor([[20.0, 10, 50, 40]])] * 2, [torch.tensor([0])] * 2
    return {"a": a, "b": b, "task": "vif", "name": ["0", "1"], "mask": mask, "boxes": boxes, "labels": labels}


def saved(config, path):
    torch.manual_seed(0)
    model = instantiate(check(config))
    model.config = dict(config)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return str(path)


@pytest.mark.parametrize(
    ("task", "config", "terms"),
    [
        (DetectionTask, DETECTOR, {"rpn_class", "rpn_box", "roi_class", "roi_box"}),
        (SegmentationTask, SEGMENTER, {"segmentation"}),
        (SaliencyTask, SALIENCY, {"saliency", "edge", "inner"}),
    ],
)
def test_gradients_reach_the_images_and_nothing_else_changes(task, config, terms, batch, tmp_path):
    path = saved(config, tmp_path / "task.ckpt")
    frozen, doubled = task(path, weight=1.0), task(path, weight=2.0)
    before = {key: value.clone() for key, value in frozen.module.state_dict().items()}
    images = batch["a"].clone().requires_grad_()
    torch.manual_seed(1)
    losses = frozen.losses(images, batch)
    assert losses.keys() == terms
    sum(losses.values()).backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in frozen.module.parameters())
    assert not frozen.module.network.training
    assert all(torch.equal(before[key], value) for key, value in frozen.module.state_dict().items())
    torch.manual_seed(1)
    for name, value in doubled.losses(batch["a"], batch).items():
        torch.testing.assert_close(value, 2 * losses[name].detach())
    assert frozen.digest == doubled.digest
    for key in ("mask", "boxes"):
        del batch[key]
    with pytest.raises(DataError, match="these pairs have no"):
        frozen.losses(batch["a"], batch)


@pytest.mark.parametrize("task", [DetectionTask, SegmentationTask, SaliencyTask])
def test_a_missing_network_is_named(task):
    name = task.__name__.removesuffix("Task").lower()
    with pytest.raises(ConfigError, match=rf"model\.task_networks\.{name}\.ckpt_path has no value yet"):
        task()


def test_classes_in_another_order_are_refused(tmp_path):
    frozen = DetectionTask(saved(DETECTOR | {"class_names": ["car", "lamp"]}, tmp_path / "task.ckpt"))

    def data(*classes):
        return SimpleNamespace(parts={"train": {"pairs": SimpleNamespace(classes=classes), "others": object()}})

    frozen.check_data(data("car", "lamp"))
    frozen.check_data(data("Car", "Lamp"))  # other names: nobody knows
    frozen.check_data(None)
    with pytest.raises(ConfigError, match=r"set data\.train\.pairs\.classes=\[car,lamp\]"):
        frozen.check_data(data("lamp", "car"))
