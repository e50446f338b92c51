"""Released networks as judges: their weights' keys, what they find, their classes, losses, intervals, label files."""

import json
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fusion.data import MSRS
from fusion.data.files.image import write_image
from fusion.downstream.detection import DetectionScores
from fusion.downstream.detection.resampled import ResampledDetectionScores
from fusion.downstream.judges import CocoDetection, CocoDetector, FastestDet, MFNet, MFNetSegmenter, YOLOXNano
from fusion.downstream.judges.evaluation import MFNetSegmentation
from fusion.downstream.judges.labelling import write_labels
from fusion.downstream.segmentation import SegmentationScores
from fusion.downstream.segmentation.resampled import ResampledSegmentationScores
from fusion.downstream.tasks import JudgeTask
from fusion.errors import ConfigError, DataError, WeightsError
from fusion.metrics.bootstrap import differences, interval, resamples
from fusion.models.output import FusionOutput

RELEASED = json.loads((Path(__file__).parents[1] / "data/reference/state_dicts.json").read_text())
CLASSES = ("People", "Car")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """State dicts as released, of random numbers: small weights, positive variances."""
    folder = tmp_path_factory.mktemp("weights")
    for name in ("fastestdet", "mfnet"):
        generator = torch.Generator().manual_seed(3)
        state = {}
        for key, shape in RELEASED[name].items():
            value = torch.randn(shape, generator=generator) * (0.3 if key.endswith("weight") else 0.1)
            state[key] = value.abs() + 0.5 if "running_var" in key else value
            if key.endswith("num_batches_tracked"):
                state[key] = torch.tensor(7)
        torch.save(state, folder / f"{name}.pth")
    return folder


@pytest.fixture(scope="module")
def detector(files):
    return CocoDetector(partial(FastestDet, side=96), str(files / "fastestdet.pth"))


@pytest.mark.parametrize(("name", "network"), [("fastestdet", FastestDet), ("mfnet", MFNet)])
def test_keys_and_shapes_are_those_of_the_released_file(name, network):
    own = {key: list(value.shape) for key, value in network().state_dict().items()}
    assert RELEASED[name].items() <= own.items()
    assert all(key.endswith("num_batches_tracked") for key in own.keys() - RELEASED[name].keys())


def test_weights_are_loaded_strictly_and_missing_ones_are_said(files, tmp_path):
    with pytest.raises(ConfigError, match="weights of the detector are not part of this package: give weights=FILE"):
        CocoDetector(FastestDet)
    with pytest.raises(WeightsError, match="do not fit MFNet: missing"):
        MFNetSegmenter(str(files / "fastestdet.pth"))
    (tmp_path / "none.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="not a readable checkpoint|refused"):
        MFNetSegmenter(str(tmp_path / "none.pth"))


def test_classes_of_data_sets_are_found_in_coco(files):
    weights = str(files / "fastestdet.pth")
    names = ["People", "Car", "Bus", "Lamp", "Motorcycle", "Truck"]
    assert list(CocoDetector(FastestDet, weights, names).mapping.values()) == [(0,), (2,), (5,), (9,), (3,), (7,)]
    assert CocoDetector(FastestDet, weights, ["Car"], {"Car": ["car", "truck"]}).mapping == {"Car": (2, 7)}
    with pytest.raises(ConfigError, match=r"class 'Guardrail': COCO has no 'guardrail'; .*mapping.Guardrail="):
        CocoDetector(FastestDet, weights, ["Guardrail"])


def test_other_classes_are_left_out(detector):
    found = [{"boxes": torch.rand(4, 4), "scores": torch.rand(4), "labels": torch.tensor([7, 2, 0, 2])}]
    original = detector.network.detect
    detector.network.detect = lambda features, size: found
    try:
        (kept,) = detector.detect(torch.rand(1, 3, 64, 64))
    finally:
        detector.network.detect = original
    assert kept["labels"].tolist() == [1, 0, 1]
    assert torch.equal(kept["boxes"], found[0]["boxes"][[1, 2, 3]])


def raw(cells, place, box, label, classes=80):
    """Outputs `(1, 85, cells, cells)` that say one box `(x, y, w, h)`, in shares, at a cell `(x, y)`."""
    output = torch.zeros(1, 5 + classes, cells, cells)
    output[:, 1:5] = -4
    x, y = place
    centre = torch.tensor([box[0] * cells - x, box[1] * cells - y]).clamp(-0.99, 0.99)
    output[0, 0, y, x] = 0.9
    output[0, 1:3, y, x] = torch.atanh(centre)
    output[0, 3:5, y, x] = torch.logit(torch.tensor(box[2:]))
    output[0, 5 + label, y, x] = 1.0
    return output


def test_fastestdet_reads_its_outputs():
    network = FastestDet(score_threshold=0.5)
    (found,) = network.detect(raw(4, (2, 1), (0.6, 0.4, 0.3, 0.5), 2), (200, 100))
    torch.testing.assert_close(found["boxes"], torch.tensor([[45.0, 30.0, 75.0, 130.0]]), atol=1e-3, rtol=0)
    assert found["labels"].tolist() == [2] and found["scores"].tolist() == pytest.approx([0.9])


def test_fastestdet_loss_asks_for_the_box_that_is_there():
    network, size = FastestDet(), (200, 100)
    truth = [torch.tensor([[45.0, 30.0, 75.0, 130.0]])], [torch.tensor([2])]
    right = network.losses(raw(4, (2, 1), (0.6, 0.4, 0.3, 0.5), 2), size, *truth)
    wrong = network.losses(raw(4, (2, 1), (0.55, 0.3, 0.1, 0.2), 2), size, *truth)
    other = network.losses(raw(4, (2, 1), (0.6, 0.4, 0.3, 0.5), 5), size, *truth)
    assert right["box"] < 0.01 < wrong["box"]
    assert right["class"] < 1e-6 < other["class"]
    nothing = network.losses(
        raw(4, (2, 1), (0.6, 0.4, 0.3, 0.5), 2), size, [torch.zeros(0, 4)], [torch.zeros(0).long()]
    )
    assert nothing["box"] == 0 and nothing["class"] == 0 and nothing["objectness"] > right["objectness"]


def batch_of(size=(64, 80)):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, *size, generator=generator) for _ in range(2))
    mask = torch.randint(0, 9, (2, *size), generator=generator)
    boxes = [torch.tensor([[10.0, 10, 40, 50]]), torch.tensor([[5.0, 5, 30, 60], [40.0, 8, 70, 40]])]
    labels = [torch.tensor([1]), torch.tensor([0, 1])]
    return {"a": a, "b": b, "task": "vif", "name": ["0", "1"], "mask": mask, "boxes": boxes, "labels": labels}


def test_gradients_reach_the_images_and_nothing_else_changes(detector, files):
    batch = batch_of()
    for judge in (detector, MFNetSegmenter(str(files / "mfnet.pth"))):
        task, double = JudgeTask(judge), JudgeTask(judge, weight=2.0)
        before = {key: value.clone() for key, value in judge.state_dict().items()}
        images = batch["a"].clone().requires_grad_()
        terms = task.losses(images, batch)
        sum(terms.values()).backward()
        assert images.grad.isfinite().all() and images.grad.abs().sum() > 0
        assert all(torch.equal(before[key], value) for key, value in judge.state_dict().items())
        for name, value in double.losses(batch["a"], batch).items():
            torch.testing.assert_close(value, 2 * terms[name].detach())


def test_a_judge_weighs_its_terms_and_labels_what_has_no_map(detector, files):
    batch = batch_of()
    plain, weighed = JudgeTask(detector), JudgeTask(detector, terms={"box": 0.25, "objectness": 4.0})
    first, second = (task.losses(batch["a"], batch) for task in (plain, weighed))
    factors = {"box": 0.25, "objectness": 4.0, "class": 1.0}
    assert first.keys() == factors.keys()
    for name, value in second.items():
        torch.testing.assert_close(value, factors[name] * first[name])
    with pytest.raises(ConfigError, match="terms.boxes: the loss has none of this name; known: box, objectness, class"):
        JudgeTask(detector, terms={"boxes": 1.0}).losses(batch["a"], batch)
    segmenter = MFNetSegmenter(str(files / "mfnet.pth"))
    bare = {key: value for key, value in batch.items() if key != "mask"}
    with pytest.raises(DataError, match="these pairs have no label maps"):
        JudgeTask(segmenter).losses(batch["a"], bare)
    given = {**batch, "mask": segmenter.segment_pair(batch["a"], batch["b"])}
    task = JudgeTask(segmenter, from_sources=True)
    assert task.losses(batch["a"], bare) == task.losses(batch["a"], given) != task.losses(batch["a"], batch)
    with pytest.raises(ConfigError, match="from_sources=true: only a segmenter"):
        JudgeTask(detector, from_sources=True)


def test_rare_classes_are_weighed_up(files):
    even, balanced = (MFNetSegmenter(str(files / "mfnet.pth"), balance=share) for share in (0.0, 1.0))
    mask = torch.zeros(2, 64, 80, dtype=torch.long)
    mask[:, :4, :4] = 2
    batch = {**batch_of(), "mask": mask}
    by_class = [
        torch.nn.functional.cross_entropy(
            even.logits(batch["a"]), torch.where(mask == kind, mask, 255), ignore_index=255
        )
        for kind in (0, 2)
    ]
    shares = torch.tensor([float((mask == kind).float().mean()) for kind in (0, 2)])
    torch.testing.assert_close(
        even.image_losses(batch["a"], batch)["segmentation"], (shares * torch.stack(by_class)).sum()
    )
    torch.testing.assert_close(balanced.image_losses(batch["a"], batch)["segmentation"], torch.stack(by_class).mean())
    with pytest.raises(ConfigError, match="balance=2"):
        MFNetSegmenter(str(files / "mfnet.pth"), balance=2)


def test_crops_are_seen_at_the_scale_of_whole_pictures():
    network = FastestDet(side=None).eval()
    assert [network.features(torch.rand(1, 3, *size)).shape[-1] for size in ((480, 640), (264, 352), (30, 40))] == [
        22,
        12,
        2,
    ]
    assert FastestDet().eval().features(torch.rand(1, 3, 120, 160)).shape[-1] == 22


def test_segmenter_takes_any_size_and_sees_the_fused_image_alone(files):
    judge = MFNetSegmenter(str(files / "mfnet.pth"))
    a, b = torch.rand(1, 3, 37, 50), torch.rand(1, 3, 37, 50)
    assert judge.predict_images(a).shape == (1, 37, 50)
    grey = a.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.equal(judge.segment_pair(grey, grey), judge.predict_images(grey))  # its luma is the thermal image
    with torch.inference_mode():
        assert not torch.allclose(judge._run(a, b[:, :1]), judge._run(a, 1 - b[:, :1]))


def detections(count, seed):
    """Found and true boxes of random images."""
    generator = torch.Generator().manual_seed(seed)
    batches = []
    for index in range(count):
        true = torch.rand(int(torch.randint(0, 5, (), generator=generator)), 4, generator=generator) * 60
        true[:, 2:] += true[:, :2] + 8
        shift = (torch.randn(len(true), 2, generator=generator) * 4).repeat(1, 2)
        extra = torch.rand(4, 4, generator=generator) * 60
        extra[:, 2:] += extra[:, :2] + 8
        labels = torch.randint(0, 2, (len(true),), generator=generator)
        found = {
            "boxes": torch.cat([true + shift, extra]),
            "scores": torch.rand(len(true) + 4, generator=generator),
            "labels": torch.cat([labels, torch.randint(0, 2, (4,), generator=generator)]),
        }
        batches.append(([found], {"boxes": [true], "labels": [labels], "name": [str(index)]}))
    return batches


def exact(scores):
    """With COCO's own recalls: torchmetrics rounds 0.01, 0.02, ... to float32, which few true boxes feel."""
    scores._metric.rec_thresholds = np.linspace(0, 1, 101).tolist()
    return scores


@pytest.mark.parametrize("iou", [0.5, 0.65])
def test_resampled_precision_is_that_of_the_public_package(iou):
    public, own = exact(DetectionScores(CLASSES, iou)), ResampledDetectionScores(CLASSES, iou, count=200)
    for found, batch in detections(12, 5):
        public.add(found, batch)
        own.add(found, batch)
    values = own.compute()
    for name, value in public.compute().items():
        assert values[name] == pytest.approx(value, abs=1e-6), name
        assert 0 <= values[f"{name}_low"] <= values[name] <= values[f"{name}_high"] <= 1
    assert values["mAP50_low"] < values["mAP50_high"]


def test_rows_of_single_images_are_the_scores_of_those_images():
    own, matched = ResampledDetectionScores(CLASSES, count=20), 0
    for found, batch in detections(6, 5):
        alone = ResampledDetectionScores(CLASSES, count=0)
        own.add(found, batch)
        if not len(batch["boxes"][0]):
            continue
        alone.add(found, batch)
        row = {"image": f"/{batch['name'][0]}"} | alone.compute()
        own.compute()
        shown = own.by_image()[-1]
        assert {key: shown[key] for key in row} == row
        assert sum(shown[f"{name}_boxes"] for name in CLASSES) == len(batch["boxes"][0])
        matched += sum(shown[f"{name}_found"] for name in CLASSES)
    assert 0 < matched <= sum(row[f"{name}_boxes"] for row in own.by_image() for name in CLASSES)
    maps = ResampledSegmentationScores(["a", "b"], count=0)
    maps.add(torch.tensor([[[0, 1]], [[1, 1]]]), {"mask": torch.tensor([[[0, 1]], [[1, 255]]]), "name": ["x", "y"]})
    maps.compute()
    assert maps.by_image() == [
        {"image": "/x", "a": 1.0, "b": 1.0, "mIoU": 1.0, "pixel_accuracy": 1.0},
        {"image": "/y", "a": None, "b": 1.0, "mIoU": 1.0, "pixel_accuracy": 1.0},
    ]


def test_a_class_without_boxes_counts_for_nothing():
    own, public = ResampledDetectionScores(("Bus", *CLASSES), count=20), exact(DetectionScores(("Bus", *CLASSES)))
    for found, batch in detections(6, 1):
        shifted = [{**item, "labels": item["labels"] + 1} for item in found]
        for scores in (own, public):
            scores.add(shifted, {**batch, "labels": [label + 1 for label in batch["labels"]]})
    values = own.compute()
    assert values["Bus"] is None and values["Bus_low"] is None
    assert values["mAP"] == pytest.approx(public.compute()["mAP"], abs=1e-6)
    empty = ResampledDetectionScores(CLASSES)
    with pytest.raises(DataError, match="no image has a box"):
        empty.compute()


def test_resampled_segmentation_is_that_of_the_public_package():
    names = ["a", "b", "c", "never"]
    public, own = SegmentationScores(names), ResampledSegmentationScores(names, count=100)
    generator = torch.Generator().manual_seed(2)
    for index in range(8):
        mask = torch.randint(0, 3, (1, 12, 12), generator=generator)
        mask[:, :2] = 255
        found = torch.where(torch.rand(1, 12, 12, generator=generator) < 0.7, mask.clamp_max(2), 1)
        for scores in (public, own):
            scores.add(found, {"mask": mask, "name": [str(index)]})
    values = own.compute()
    for name, value in public.compute().items():
        assert values[name] == (None if value is None else pytest.approx(value, abs=1e-9))
    assert values["mIoU_low"] < values["mIoU"] < values["mIoU_high"]
    with pytest.raises(DataError, match="a pixel of class 9 for 4 classes"):
        own.add(torch.zeros(1, 2, 2).long(), {"mask": torch.full((1, 2, 2), 9), "name": ["x"]})


def test_intervals():
    counts = resamples(5, 300)
    assert counts.shape == (300, 5) and (counts.sum(1) == 5).all() and np.array_equal(counts, resamples(5, 300))
    assert interval(np.arange(1001.0)) == pytest.approx((25.0, 975.0))
    assert interval(np.array([np.nan])) is None
    values = {"plain": {"mAP": 0.5}, "better": {"mAP": 0.6}, "other": {"mAP": None}}
    drawn = {"plain": {"mAP": np.array([0.4, 0.5, 0.6])}, "better": {"mAP": np.array([0.5, 0.6, 0.7])}}
    (row,) = differences(values, drawn, "mAP")
    assert row["against"] == "plain" and row["difference"] == pytest.approx(0.1) == row["low"] == row["high"]


def test_tables_have_intervals_and_differences(detector, files, tmp_path):
    batch = batch_of()
    cases = (
        (CocoDetection(detector, bootstrap=30), "mAP50"),
        (MFNetSegmentation(MFNetSegmenter(str(files / "mfnet.pth")), bootstrap=30), "mIoU"),
    )
    for evaluation, score in cases:
        for method, share in (("ours", 0.3), ("theirs", 0.9)):
            watch = evaluation.callback(method)
            watch.setup(SimpleNamespace(datamodule=None), None, "test")
            watch._look(
                SimpleNamespace(device=torch.device("cpu")), FusionOutput(batch["b"].lerp(batch["a"], share)), batch
            )
            watch._finish()
        table, text, alone, compared = (path.read_text() for path in evaluation.write(tmp_path))
        assert alone.count("\n") == 9 and alone.startswith("method,image,")
        assert table.count("\n") == 5 and f"{score}_low" in table
        assert all(name in text for name in ("ours", "Visible", "Infrared", "theirs", "["))
        assert "theirs,ours" in compared


class Session:
    """Stands for an ONNX session of side 32: 16 + 4 + 1 outputs."""

    def __init__(self):
        self.seen = None

    def get_inputs(self):
        return [SimpleNamespace(name="images", shape=[1, 3, 32, 32])]

    def run(self, _, feed):
        self.seen = feed["images"]
        output = np.zeros((1, 21, 85), np.float32)
        output[0, 5] = np.eye(85, dtype=np.float32)[7] + np.eye(85, dtype=np.float32)[4]  # second row and column, a car
        output[0, 5, :4] = (0.5, 0.5, np.log(1.0), np.log(2.0))
        return [output]


def test_yolox_reads_its_outputs():
    pytest.importorskip("onnxruntime")
    network = YOLOXNano(score_threshold=0.5)
    with pytest.raises(WeightsError, match="no network yet"):
        network.features(torch.rand(1, 3, 8, 8))
    network._session, network.side = Session(), 32
    image = torch.zeros(1, 3, 32, 64)
    image[:, 0] = 1.0  # red
    (found,) = network.detect(network.features(image), (32, 64))
    torch.testing.assert_close(found["boxes"], torch.tensor([[16.0, 8.0, 32.0, 32.0]]))  # half the scale, clipped below
    assert found["labels"].tolist() == [2]
    seen = network._session.seen[0]
    assert (seen[:, 16:] == 114).all() and seen[2, :16].min() == 255 and seen[0, :16].max() == 0  # BGR, padded below
    with pytest.raises(ConfigError, match="cannot train T-OAR"):
        network.losses()


def test_another_network_than_yolox_nano_is_refused(tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    network = YOLOXNano()
    (tmp_path / "damaged.onnx").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"damaged.onnx: not a readable ONNX file"):
        network.open(tmp_path / "damaged.onnx")
    other = SimpleNamespace(get_inputs=Session().get_inputs, get_outputs=lambda: [SimpleNamespace(shape=[1, 21, 8])])
    monkeypatch.setattr(runtime, "InferenceSession", lambda *args, **options: other)
    with pytest.raises(WeightsError, match=r"expected one image in and \(N, 85\) out"):
        network.open(tmp_path / "three_classes.onnx")


def test_labels_are_written_and_read_back(detector, files, tmp_path):
    for side in ("vi", "ir"):
        for name in ("00001D", "00002N"):
            write_image(tmp_path / f"MSRS/train/{side}/{name}.png", torch.rand(3, 48, 64))
    found = [
        {"boxes": torch.tensor([[4.0, 5.0, 30.0, 40.0]]), "scores": torch.tensor([0.8]), "labels": torch.tensor([2])}
    ]
    original = detector.network.detect
    detector.network.detect = lambda features, size: found
    try:
        assert write_labels([MSRS(tmp_path / "MSRS")], detector, tmp_path / "boxes") == 2
    finally:
        detector.network.detect = original
    write_labels([MSRS(tmp_path / "MSRS")], MFNetSegmenter(str(files / "mfnet.pth")), tmp_path / "maps")
    sample = MSRS(tmp_path / "MSRS", box_dir=tmp_path / "boxes", label_dir=tmp_path / "maps", offset=1.0)[0]
    assert sample["boxes"].tolist() == [[4.0, 5.0, 30.0, 40.0]] and sample["labels"].tolist() == [1]
    assert sample["mask"].shape == (48, 64) and int(sample["mask"].max()) < 9
    with pytest.raises(DataError, match="two pairs are named 00001D"):
        write_labels([MSRS(tmp_path / "MSRS")] * 2, detector, tmp_path / "again")


needs_weights = pytest.mark.skipif("FUSION_REFERENCE_DIR" not in os.environ, reason="needs the released weights")


@needs_weights
def test_released_detector_finds_the_people_of_msrs():
    root = Path(os.environ["FUSION_REFERENCE_DIR"])
    judge = CocoDetector(FastestDet, str(root / "networks/FastestDet.pth"))
    scores = ResampledDetectionScores(CLASSES, count=0)
    data = MSRS(root / "MSRS", "test", require_boxes=True)
    for sample in (data[index] for index in range(6)):
        found = judge.detect(sample["a"][None].float() / 255)
        scores.add(found, {key: [sample[key]] for key in ("boxes", "labels", "name")})
    assert scores.compute()["People"] > 0.4


@needs_weights
def test_released_segmenter_finds_cars_where_the_boxes_are():
    root = Path(os.environ["FUSION_REFERENCE_DIR"])
    judge = MFNetSegmenter(str(root / "networks/MFNet_segmentation.pth"))
    data = MSRS(root / "MSRS", "test", require_boxes=True, include=["00131D", "00147D"])
    for sample in data:
        classes = judge.segment_pair(*(sample[key][None].float() / 255 for key in ("a", "b")))[0]
        for box, label in zip(sample["boxes"].int().tolist(), sample["labels"].tolist(), strict=True):
            inside = classes[box[1] : box[3], box[0] : box[2]]
            if label == 1 and inside.numel() > 2000:
                assert (inside == 1).float().mean() > 0.4
