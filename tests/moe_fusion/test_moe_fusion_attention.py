"""Attention from detectors, boxes and saliency, and who learns from which loss."""

import pytest
import torch

from fusion.errors import ConfigError, DataError, WeightsError
from fusion.layers.faster_rcnn import FasterRCNN
from fusion.losses import box_mask, max_sobel_l1, region_pixel_l1
from fusion.models.moe_fusion import BoxAttention, DetectorAttention, MoEFusionLoss, SaliencyAttention, UniformAttention
from fusion.models.moe_fusion.saliency import frequency_tuned_saliency
from fusion.models.output import FusionOutput

SMALL = {
    "num_classes": 2,
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


def batch(with_boxes=True):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 3, 32, 48, generator=generator) for _ in range(2))
    found = {"a": a, "b": b, "task": "vif", "name": ["0", "1"]}
    if with_boxes:
        boxes = [torch.tensor([[4.0, 5.0, 20.0, 25.0], [30.0, 2.0, 46.0, 12.0]]), torch.zeros(0, 4)]
        found |= {"boxes": boxes, "labels": [torch.tensor([0, 1]), torch.zeros(0, dtype=torch.int64)]}
    return found


def terms_of(model, data):
    torch.manual_seed(0)
    return model.losses(model(data["a"], data["b"], "vif", **model.batch_controls(data)), data)


def is_detection(name):
    return name.split("_", 1)[-1] in ("rpn_class", "rpn_box", "roi_class", "roi_box")


# Boxes and saliency ---------------------------------------------------------------------------------------------------


def test_box_mask_is_the_union_of_truncated_clipped_boxes():
    boxes = [
        [-5.5, 1.9, 3.2, 4.9],
        [2.0, 3.0, 6.0, 99.0],
        [7.9, 0.0, 7.9, 5.0],
        [6.0, 5.0, 4.0, 6.0],
        [-0.9, -0.5, 1.0, 1.0],
    ]
    expected = torch.zeros(8, 10)
    for x1, y1, x2, y2 in boxes:
        expected[max(int(y1), 0) : max(int(y2), 0), max(int(x1), 0) : max(int(x2), 0)] = 1
    mask = box_mask([torch.tensor(boxes), torch.zeros(0, 4)], (8, 10))
    assert torch.equal(mask[0, 0], expected) and 0 < expected.sum() < 80
    assert mask.shape == (2, 1, 8, 10) and not mask[1].any()


def test_pixel_loss_is_one_l1_to_the_composed_target():
    fused, a, b = torch.rand(3, 2, 1, 8, 10)
    mask = (torch.rand(2, 1, 8, 10) > 0.5).float()
    target = torch.where(mask > 0, torch.maximum(a, b), (a + b) / 2)
    torch.testing.assert_close(region_pixel_l1(fused, a, b, mask), (fused - target).abs().mean())


def test_gradient_loss_is_zero_only_for_the_stronger_gradients():
    a = torch.zeros(1, 1, 8, 8)
    a[..., 4:] = 1
    flat = torch.full_like(a, 0.0)
    assert max_sobel_l1(a, a, flat) == 0
    assert max_sobel_l1(flat, a, flat) > 0


def test_loss_looks_for_bright_pixels_where_it_is_told():
    a, b = torch.rand(2, 2, 1, 32, 48)
    attention = torch.zeros_like(a)
    attention[..., :10] = 0.9
    extras = {"luma": torch.maximum(a, b), "luma_a": a, "luma_b": b, "attention": attention}
    output, data = FusionOutput(a, extras=extras), batch()
    assert torch.equal(MoEFusionLoss().target_mask(output, data), box_mask(data["boxes"], (32, 48)))
    assert not MoEFusionLoss().target_mask(output, batch(with_boxes=False)).any()
    by_attention = MoEFusionLoss(mask="attention").target_mask(output, data)
    assert torch.equal(by_attention, (attention > 0.5).float())
    plain = MoEFusionLoss()(output, data)
    doubled = MoEFusionLoss(alpha=20, pixel=2)(output, data)
    assert doubled["pixel"] == 2 * plain["pixel"] > 0 and doubled["gradient"] == 2 * plain["gradient"] > 0


def test_attention_from_boxes(build):
    model, data = build(BoxAttention()), batch()
    output = model.fuse(data["a"], data["b"], boxes=data["boxes"])
    assert torch.equal(output.extras["attention"], box_mask(data["boxes"], (32, 48)))
    with pytest.raises(DataError, match="choose model/attention=saliency"):
        model.fuse(data["a"], data["b"])
    with pytest.raises(DataError, match="boxes of 1 images for 2 pairs"):
        model.fuse(data["a"], data["b"], boxes=data["boxes"][:1])
    lenient = build(BoxAttention(without_boxes=0.5)).fuse(data["a"], data["b"])
    assert (lenient.extras["attention"] == 0.5).all()
    assert set(terms_of(model.train(), data)) == {"pixel", "gradient", "load"}


def test_boxes_are_scaled_with_the_images(build):
    model, data = build(BoxAttention(), work_size=[16, 96]), batch()
    seen = model.fuse(data["a"], data["b"], boxes=data["boxes"]).extras["attention"]
    scaled = [box * torch.tensor([2, 0.5, 2, 0.5]) for box in data["boxes"]]
    assert torch.equal(seen, box_mask(scaled, (16, 96)))
    given = model.fuse(data["a"], data["b"], boxes=data["boxes"], attention=torch.full((2, 1, 32, 48), 0.3))
    assert given.extras["attention"].shape == (2, 1, 16, 96) and given.fused.shape == (2, 3, 32, 48)


def test_saliency_finds_what_stands_out():
    luma = torch.full((2, 1, 40, 60), 0.3)
    luma[0, 0, 10:20, 20:30] = 0.9
    saliency = frequency_tuned_saliency(luma)
    assert saliency[0, 0, 12:18, 22:28].min() > 0.9 and saliency[0, 0, :5].max() < 0.1
    assert not saliency[1].any(), "nothing stands out of a flat image"
    fixed = frequency_tuned_saliency(luma, full=0.4)
    assert fixed[0, 0, 12:18, 22:28].min() == 1 and fixed[1].max() < 1e-5
    assert frequency_tuned_saliency(torch.rand(1, 1, 1, 2)).shape == (1, 1, 1, 2)


@pytest.mark.parametrize(
    ("source", "follows_a", "follows_b"), [("a", True, False), ("b", False, True), ("both", True, True)]
)
def test_saliency_of_the_chosen_sources(source, follows_a, follows_b):
    attention = SaliencyAttention(source)
    a, b = torch.rand(2, 1, 1, 24, 24)
    before = attention(a, b).map
    assert (not torch.equal(attention(a.flip(3), b).map, before)) == follows_a
    assert (not torch.equal(attention(a, b.flip(3)).map, before)) == follows_b


def test_given_attention_replaces_the_model_s_own(build):
    model, data = build(UniformAttention()), batch()
    mine = torch.rand(2, 1, 32, 48)
    output = model.fuse(data["a"], data["b"], attention=mine)
    assert torch.equal(output.extras["attention"], mine)
    assert not torch.equal(output.fused, model.fuse(data["a"], data["b"]).fused)
    asked = build(BoxAttention()).fuse(data["a"], data["b"], attention=mine)  # the model's own would miss its boxes
    torch.testing.assert_close(asked.fused, output.fused)
    with pytest.raises(DataError, match=r"attention of shape \(2, 1, 32, 47\): expected \(2, 1, 32, 48\)"):
        model.fuse(data["a"], data["b"], attention=mine[..., :-1])


# Detectors --------------------------------------------------------------------------------------------------------------


def test_each_loss_trains_its_own_part(build):
    data = batch()
    model = build(DetectorAttention(SMALL)).train()
    terms = terms_of(model, data)
    assert sum(map(is_detection, terms)) == 8 and set(terms) >= {"pixel", "gradient", "load"}
    assert all(term.isfinite() for term in terms.values())
    fusion = [p for p in model.network.parameters()]
    detectors = list(model.attention.parameters())
    of_detection = sum(term for name, term in terms.items() if is_detection(name))
    of_fusion = sum(term for name, term in terms.items() if not is_detection(name))
    assert all(g is None for g in torch.autograd.grad(of_detection, fusion, allow_unused=True, retain_graph=True))
    assert all(g is None for g in torch.autograd.grad(of_fusion, detectors, allow_unused=True, retain_graph=True))
    sum(terms.values()).backward()
    unreached = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not unreached  # or DDP would wait for them
    model.detection = 0.5
    halved = terms_of(model, data)
    assert halved["a_rpn_class"].item() == pytest.approx(terms["a_rpn_class"].item() / 2)


def test_detectors_are_mixed_across_modalities(build):
    model, apart = build(DetectorAttention(SMALL)), build(DetectorAttention(SMALL, cross_mix=False))
    data = batch()

    def of_visible(model, b):
        return model.fuse(data["a"], b).extras["detail"].detail["features_a"]["0"]

    assert not torch.equal(of_visible(model, data["b"]), of_visible(model, 1 - data["b"]))
    assert torch.equal(of_visible(apart, data["b"]), of_visible(apart, 1 - data["b"]))


def test_attention_is_the_larger_of_the_two_maps(build):
    model, data = build(DetectorAttention(SMALL)).eval(), batch()
    maps = []
    for part in (model.attention.attention_a, model.attention.attention_b):
        part.register_forward_hook(lambda module, x, y: maps.append(y))
    seen = model.fuse(data["a"], data["b"]).extras["attention"]
    finest = torch.maximum(maps[0], maps[1])
    assert finest.shape == (2, 1, 8, 12)
    expected = torch.nn.functional.interpolate(finest, (32, 48), mode="bilinear", align_corners=True)
    torch.testing.assert_close(seen, expected)


def test_frozen_detectors_need_no_boxes_and_stay_as_they_are(build):
    data = batch(with_boxes=False)
    with pytest.raises(ConfigError, match=r"choose data with boxes \(data=m3fd\), freeze them"):
        terms_of(build(DetectorAttention(SMALL)).train(), data)
    model = build(DetectorAttention(SMALL, train=False)).train()
    before = {name: value.clone() for name, value in model.attention.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(terms_of(model, data).values()).backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in model.attention.state_dict().items())


def test_joined_maps_learn_from_the_fusion_losses(build):
    model = build(DetectorAttention(SMALL, join="conv", train=False)).train()
    data = batch(with_boxes=False)
    sum(terms_of(model, data).values()).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.attention.join.parameters())


@pytest.mark.parametrize(("height", "width"), [(31, 45), (5, 9), (1, 1)])
def test_detector_batch_independence_and_any_size(build, height, width):
    model, data = build(DetectorAttention(SMALL)).eval(), batch()
    a, b = data["a"][..., :height, :width], data["b"][..., :height, :width]
    together = model.fuse(a, b)
    assert together.fused.shape == (2, 3, height, width)
    alone = torch.cat([model.fuse(a[i], b[i]).fused for i in range(2)])
    torch.testing.assert_close(together.fused, alone, atol=1e-5, rtol=0)


def test_labels_that_the_detector_does_not_know_are_named(build):
    data = batch()
    data["labels"][0][1] = 2
    with pytest.raises(DataError, match="a box of class 2 for a detector of 2 classes"):
        terms_of(build(DetectorAttention(SMALL)).train(), data)


# Weights ------------------------------------------------------------------------------------------------------------------


def test_backbone_weights_from_a_file(tmp_path):
    source = FasterRCNN(**(SMALL | {"norm": "frozen"}))
    state = source.backbone.body.state_dict() | {"fc.weight": torch.zeros(2)}  # classifiers are left aside
    torch.save(state, tmp_path / "resnet18.pth")
    detector = FasterRCNN(**(SMALL | {"norm": "frozen", "weights": str(tmp_path / "resnet18.pth")}))
    detector.load_pretrained()
    assert torch.equal(detector.backbone.body.conv1.weight, source.backbone.body.conv1.weight)
    del state["conv1.weight"]
    torch.save(state, tmp_path / "resnet18.pth")
    with pytest.raises(WeightsError, match=r"do not fit resnet18: missing .'conv1.weight'"):
        detector.load_pretrained()


def test_without_a_network_one_line_says_what_to_do(monkeypatch):
    from torchvision.models import ResNet18_Weights

    def offline(self, *args, **options):
        raise OSError("no route to host")

    monkeypatch.setattr(ResNet18_Weights, "get_state_dict", offline)
    detector = FasterRCNN(**(SMALL | {"norm": "frozen", "weights": "imagenet"}))
    with pytest.raises(WeightsError, match=r"no route to host.*put https://.*resnet18.*weights=null"):
        detector.load_pretrained()
    with pytest.raises(ConfigError, match="have batch norms"):
        FasterRCNN(**(SMALL | {"weights": "imagenet"}))
