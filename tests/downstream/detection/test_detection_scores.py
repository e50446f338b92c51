"""Average precision by hand, and Faster R-CNN's losses."""

import sys

import pytest
import torch

from fusion.downstream.detection import DetectionScores, DetectorTraining
from fusion.errors import ConfigError, DataError
from fusion.layers.faster_rcnn import FasterRCNN
from fusion.models.baselines import Average
from fusion.training.checks import check_monitor

SMALL = {
    "backbone": "resnet18",
    "frozen_stages": 0,
    "norm": "group",
    "channels": 16,
    "hidden": 32,
    "anchors": [8, 16, 32, 64, 128],
    "proposals": [50, 20],
    "rpn_samples": 32,
    "roi_samples": 32,
}
BOXES = [torch.tensor([[10.0, 10.0, 30.0, 30.0], [40.0, 5.0, 60.0, 25.0]]), torch.tensor([[0.0, 0.0, 20.0, 20.0]])]
LABELS = [torch.tensor([0, 1]), torch.tensor([0])]


def found(boxes, scores, labels):
    return {
        "boxes": torch.tensor(boxes).reshape(-1, 4).float(),
        "scores": torch.tensor(scores).float(),
        "labels": torch.tensor(labels, dtype=torch.int64),
    }


def test_average_precision_by_hand():
    scores = DetectionScores(["car", "person", "bicycle"])
    first = found([[11, 10, 31, 30], [40, 5, 60, 25]], [0.9, 0.8], [0, 0])  # the second has the wrong class
    second = found([[0, 0, 20, 20], [50, 50, 60, 60]], [0.7, 0.95], [0, 2])  # a bicycle that is not there
    scores.update([first], BOXES[:1], LABELS[:1])
    scores.update([second], BOXES[1:], LABELS[1:])
    values = scores.compute()
    # cars by score: true, false, true. Precision is 1 up to a recall of one half (51 of 101 points), then 2/3.
    assert values["car"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-4)
    assert values["person"] == 0 and values["bicycle"] is None
    assert values["mAP"] == pytest.approx(values["car"] / 2)


def test_overlap_decides():
    loose = found([[10, 10, 30, 24]], [0.9], [0])  # 0.7 of the box

    def precision(iou):
        scores = DetectionScores(["car"], iou)
        scores.update([loose], [BOXES[0][:1]], [LABELS[0][:1]])
        return scores.compute()["car"]

    assert precision(0.5) == 1 and precision(0.75) == 0


def test_scores_over_all_ious_are_those_of_the_public_package():
    from torchmetrics.detection import MeanAveragePrecision

    generator = torch.Generator().manual_seed(0)
    ours, theirs = DetectionScores(["car", "person", "bus"]), MeanAveragePrecision()
    half = MeanAveragePrecision(iou_thresholds=[0.5], class_metrics=True)
    for _ in range(6):
        corners = torch.randint(0, 60, (5, 2), generator=generator).float()
        boxes = torch.cat([corners, corners + torch.randint(12, 30, (5, 2), generator=generator)], dim=1)
        labels = torch.randint(0, 2, (5,), generator=generator)
        shaken = boxes + 3 * torch.randn(5, 4, generator=generator)
        guesses = {"boxes": shaken, "scores": torch.rand(5, generator=generator), "labels": labels.clone()}
        guesses["labels"][0] = 2  # a bus that is not there
        ours.update([guesses], [boxes], [labels])
        for metric in (theirs, half):
            metric.update([guesses], [{"boxes": boxes, "labels": labels}])
    values, all_ious, at_half = ours.compute(), theirs.compute(), half.compute()
    assert values["mAP50-95"] == pytest.approx(all_ious["map"].item(), abs=1e-6)
    assert values["mAP50"] == values["mAP"] == pytest.approx(all_ious["map_50"].item(), abs=1e-6)
    assert [values["car"], values["person"]] == pytest.approx(at_half["map_per_class"][:2].tolist(), abs=1e-6)
    assert values["bus"] is None and 0 < values["mAP50-95"] < values["mAP50"] < 1


def test_nothing_to_find_is_refused():
    scores = DetectionScores(["car"])
    scores.update([found([], [], [])], [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)])
    with pytest.raises(DataError, match="no image has a box"):
        scores.compute()


def test_a_missing_package_is_named(monkeypatch):
    import torchmetrics.detection

    monkeypatch.delattr(torchmetrics.detection, "MeanAveragePrecision", raising=True)
    assert "torchmetrics" in sys.modules
    with pytest.raises(ConfigError, match="need pycocotools: pip install"):
        DetectionScores(["car"])


def test_losses_of_images_with_and_without_boxes():
    torch.manual_seed(0)
    detector = FasterRCNN(num_classes=2, **SMALL).train()
    images = torch.rand(2, 3, 48, 64)
    features = detector.features(images)
    assert list(features) == ["0", "1", "2", "3", "pool"] and features["0"].shape == (2, 16, 12, 16)
    terms = detector.losses(features, (48, 64), [BOXES[0], torch.zeros(0, 4)], [LABELS[0], torch.zeros(0)])
    assert set(terms) == {"rpn_class", "rpn_box", "roi_class", "roi_box"}
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())
    empty = detector.losses(detector.features(images), (48, 64), [torch.zeros(0, 4)] * 2, [torch.zeros(0)] * 2)
    assert empty["rpn_box"] == 0 and empty["roi_box"] == 0 and empty["rpn_class"] > 0
    detector.eval()
    frozen = detector.losses(detector.features(images), (48, 64), BOXES, LABELS)
    assert set(frozen) == set(terms) and not detector.rpn.training and not detector.roi.training


def test_box_loss_has_the_recipe_s_knee():
    torch.manual_seed(0)
    losses = {}
    for beta in (1 / 9, 1.0):
        detector = FasterRCNN(num_classes=2, **SMALL, roi_beta=beta).train()
        detector.load_state_dict(losses.get("state") or detector.state_dict())
        losses.setdefault("state", detector.state_dict())
        torch.manual_seed(1)
        features = detector.features(torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(2)))
        losses[beta] = detector.losses(features, (48, 64), BOXES, LABELS)
    assert losses[1.0]["rpn_box"] == losses[1 / 9]["rpn_box"]
    assert 0 < losses[1.0]["roi_box"] < losses[1 / 9]["roi_box"]


def test_slivers_that_crops_leave_do_not_count():
    torch.manual_seed(0)
    detector = FasterRCNN(num_classes=2, **SMALL).train()
    features = detector.features(torch.rand(1, 3, 48, 64))
    sliver = torch.tensor([[10.0, 10.0, 10.0, 30.0]])
    terms = detector.losses(features, (48, 64), [sliver], [torch.tensor([0])])
    assert terms["rpn_box"] == 0 and terms["roi_box"] == 0


def test_detections_count_classes_from_zero_and_lie_in_the_image():
    torch.manual_seed(0)
    detector = FasterRCNN(num_classes=2, **SMALL, score_threshold=0.0).eval()
    with torch.no_grad():
        for image in detector.detect(detector.features(torch.rand(2, 3, 48, 64)), (48, 64)):
            assert len(image["boxes"]) == len(image["scores"]) == len(image["labels"]) > 0
            assert set(image["labels"].tolist()) <= {0, 1}
            assert image["boxes"].min() >= 0 and image["boxes"][:, 2].max() <= 64 and image["boxes"][:, 3].max() <= 48


def test_detector_learns_from_both_images_of_a_pair():
    torch.manual_seed(0)
    model = DetectorTraining(["car", "person"], SMALL).train()
    batch = {"a": torch.rand(1, 3, 48, 64), "b": torch.rand(1, 3, 48, 64), "task": "vif", "name": ["0"]}
    with pytest.raises(DataError, match="no boxes"):
        model.losses(model(batch["a"], batch["b"]), batch)
    batch |= {"boxes": BOXES[:1], "labels": LABELS[:1]}
    images = torch.cat([batch["a"], batch["b"]]).requires_grad_(True)
    output = model(images[:1], images[1:])
    sum(model.losses(output, batch).values()).backward()
    assert images.grad[0].any() and images.grad[1].any()


def test_detector_can_look_at_what_a_method_fuses():
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match=r"model\.images=fuzed is not one of"):
        DetectorTraining(["car", "person"], SMALL, images="fuzed")
    model = DetectorTraining(["car", "person"], SMALL, images="fused", fuser=Average()).train()
    batch = {"a": torch.rand(1, 3, 48, 64), "b": torch.rand(1, 3, 48, 64), "task": "vif", "name": ["0"]}
    batch |= {"boxes": BOXES[:1], "labels": LABELS[:1]}
    output = model(batch["a"], batch["b"])
    torch.testing.assert_close(output.fused, (batch["a"] + batch["b"]) / 2)
    torch.manual_seed(1)
    fused = model.losses(output, batch)
    torch.manual_seed(1)
    assert fused == model.image_losses(output.fused, batch)
    check_monitor(model, {"monitor": {"metric": "val/mAP50-95"}})  # which no fusion metric is called


def test_half_precision_features_do_not_make_coarse_anchors():
    torch.manual_seed(0)
    detector = FasterRCNN(num_classes=2, **SMALL).train()
    images = torch.rand(1, 3, 48, 64)
    with torch.autocast("cpu", torch.bfloat16):
        features = detector.features(images)
        assert features["0"].dtype == torch.bfloat16
        terms = detector.losses(features, (48, 64), BOXES[:1], LABELS[:1])
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    anchors = detector.rpn.anchor_generator.cell_anchors[0]
    assert anchors.dtype == torch.float32
