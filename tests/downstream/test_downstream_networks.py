"""Networks, losses and training of segmentation and saliency, and the tables that evaluation leaves."""

import csv
from functools import partial

import pytest
import torch
from lightning import Trainer

from fusion.downstream.evaluation import DownstreamEvaluation
from fusion.downstream.saliency import CTDNet, SaliencyEvaluation, SaliencyTraining
from fusion.downstream.saliency.losses import edge_of, region_loss, saliency_losses
from fusion.downstream.saliency.network import SaliencyLogits
from fusion.downstream.segmentation import PyramidSegmenter, SegmentationEvaluation, SegmentationTraining
from fusion.downstream.training import load_trained
from fusion.errors import ConfigError, DataError
from fusion.job.config import check, instantiate
from fusion.models.baselines import Average, Maximum
from fusion.models.output import FusionOutput
from fusion.training.schedules import poly, triangular

SEGMENTER = {
    "_target_": "fusion.downstream.segmentation.SegmentationTraining",
    "class_names": ["street", "car", "person"],
    "images": "fused",
    "network": {"_target_": "fusion.downstream.segmentation.PyramidSegmenter", "_partial_": True, "width": 16},
    "fuser": {"_target_": "fusion.models.baselines.Maximum"},
}


def batch_of(size=(40, 48), classes=3, count=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(count, 3, *size, generator=generator) for _ in range(2))
    mask = torch.randint(classes, (count, *size), generator=generator)
    mask[:, :2] = 255
    names = [str(i) for i in range(count)]
    return {"a": a, "b": b, "task": "vif", "name": names, "mask": mask, "dataset": ["mini"] * count}


def saved(config, path):
    """A checkpoint as training leaves it."""
    torch.manual_seed(0)
    model = instantiate(check(config))
    model.config = dict(config)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return model.eval(), str(path)


def test_ctdnet_has_the_published_size_and_gives_six_maps():
    network = CTDNet().eval()
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(11.8e6, rel=5e-3)
    logits = network(torch.rand(1, 3, 65, 80))
    assert logits.saliency.shape == logits.edge.shape == (1, 1, 65, 80)
    assert [x.shape for x in logits.inner] == [(1, 1, 65, 80)] * 4


def test_edges_are_dilation_less_erosion():
    mask = torch.zeros(1, 1, 7, 7)
    mask[..., 2:5, 2:5] = 1
    expected = torch.zeros(7, 7)
    expected[1:6, 1:6] = 1
    expected[3, 3] = 0
    assert torch.equal(edge_of(mask)[0, 0], expected)


def test_saliency_loss_is_the_released_one():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(2, 1, 32, 32, generator=generator) > 0.5).float()
    maps = [torch.randn(2, 1, 32, 32, generator=generator) for _ in range(6)]
    logits = SaliencyLogits(maps[0], maps[1], tuple(maps[2:]))
    one = logits.saliency.sigmoid()
    both = (one * mask).sum((1, 2, 3))
    either = (one + mask).sum((1, 2, 3)) - both
    crossed = -(mask * one.log() + (1 - mask) * (1 - one).log()).mean()
    expected = (1 - (both + 1) / (either + 1)).mean() + 0.6 * crossed
    torch.testing.assert_close(region_loss(logits.saliency, mask), expected)
    terms = saliency_losses(logits, mask)
    weights = (0.5, 0.25, 0.125, 0.0625)
    inner = sum(w * region_loss(x, mask) for w, x in zip(weights, logits.inner, strict=True))
    torch.testing.assert_close(terms["inner"], inner)


def test_segmenter_ignores_unlabelled_pixels_and_refuses_unknown_classes():
    torch.manual_seed(0)
    module = SegmentationTraining(["x", "y", "z"], partial(PyramidSegmenter, width=16), images="a").eval()
    batch = batch_of()
    loss = module.image_losses(batch["a"], batch)["segmentation"]
    logits = module.logits(batch["a"])
    assert logits.shape == (2, 3, 40, 48)
    counted = batch["mask"] != 255
    picked = logits.log_softmax(1).permute(0, 2, 3, 1)[counted].gather(1, batch["mask"][counted][:, None])
    torch.testing.assert_close(loss, -picked.mean())
    nothing = {**batch, "mask": torch.full_like(batch["mask"], 255)}
    assert module.image_losses(batch["a"], nothing)["segmentation"] == 0
    with pytest.raises(DataError, match="class 5 for 3 classes"):
        module.image_losses(batch["a"], {**batch, "mask": torch.full_like(batch["mask"], 5)})
    with pytest.raises(ConfigError, match=r"model\.network\.trunk=no_such_net"):
        PyramidSegmenter(3, trunk="no_such_net")


@pytest.mark.parametrize(("images", "expected"), [("a", "a"), ("b", "b"), ("fused", "max"), ("both", "two")])
def test_networks_train_on_what_they_are_told(images, expected):
    module = SegmentationTraining(["x", "y", "z"], partial(PyramidSegmenter, width=16), images=images, fuser=Maximum())
    batch = batch_of()
    seen = module(batch["a"], batch["b"]).fused
    a, b = batch["a"], batch["b"]
    assert torch.equal(seen, {"a": a, "b": b, "max": torch.maximum(a, b), "two": torch.cat([a, b])}[expected])
    assert module.losses(FusionOutput(seen), batch)["segmentation"] > 0
    assert not any("fuser" in key for key in module.state_dict())


def test_what_cannot_be_trained_on_is_refused():
    with pytest.raises(ConfigError, match=r"model\.images=c"):
        SegmentationTraining(["x"], PyramidSegmenter, images="c")
    with pytest.raises(ConfigError, match=r"model\.fuser"):
        SegmentationTraining(["x"], PyramidSegmenter)(torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32))


def test_parts_learn_at_their_own_rates():
    sgd = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    module = SaliencyTraining(CTDNet(channels=8), optimizer=sgd)
    groups = sgd(module.parameter_groups(0.0)).param_groups
    assert [group["lr"] for group in groups] == pytest.approx([0.005, 0.05])
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    adam = partial(torch.optim.AdamW, lr=6e-5, weight_decay=0.01)
    module = SegmentationTraining(["x"], partial(PyramidSegmenter, width=16), images="a", optimizer=adam)
    groups = adam(module.parameter_groups(0.01)).param_groups
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    head = {id(parameter) for parameter in module.network.head.parameters()}
    for group in groups:
        assert {id(parameter) in head for parameter in group["params"]} == {group["lr"] == pytest.approx(6e-4)}


def test_schedules_of_the_task_networks():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    factor = triangular(optimizer, steps_per_epoch=2, epochs=40).lr_lambdas[0]
    assert [factor(2 * e) for e in (0, 19, 20, 39)] == pytest.approx([2 / 41, 40 / 41, 40 / 41, 2 / 41])
    factor = poly(optimizer, steps_per_epoch=100, epochs=10, warmup_steps=50).lr_lambdas[0]
    assert factor(0) < 1e-5 and factor(25) == pytest.approx(0.975 * 0.5, rel=1e-3)
    assert factor(500) == pytest.approx(0.5) and factor(1000) == 0


def watch(evaluation: DownstreamEvaluation, method: str, batch, fused):
    """What a trainer does with a callback."""
    callback, model, trainer = evaluation.callback(method), Average(), Trainer(logger=False, accelerator="cpu")
    callback.setup(trainer, model, "test")
    callback.on_test_batch_end(trainer, model, FusionOutput(fused), batch, 0)
    callback.on_test_epoch_end(trainer, model)


def test_evaluation_scores_methods_sources_and_folders(tmp_path):
    from fusion.data.files.image import write_image

    module, path = saved(SEGMENTER, tmp_path / "common.ckpt")
    batch = batch_of()
    for name, image in zip(batch["name"], batch["a"], strict=True):
        write_image(tmp_path / "theirs" / f"{name}.png", image)
    evaluation = SegmentationEvaluation(ckpt_path=path, fused={"Theirs": str(tmp_path / "theirs")})
    watch(evaluation, "Ours", batch, torch.maximum(batch["a"], batch["b"]))
    watch(evaluation, "Average", batch, (batch["a"] + batch["b"]) / 2)
    assert list(evaluation.results) == ["Ours", "Visible", "Infrared", "Theirs", "Average"]
    scores = module.scores()
    with torch.no_grad():
        scores.add(module.predict_images(batch["b"]), batch)
    assert evaluation.results["Infrared"] == pytest.approx(scores.compute())
    table, text = evaluation.write(tmp_path)
    rows = list(csv.DictReader(table.open()))
    assert [row["method"] for row in rows] == list(evaluation.results)
    assert f"{100 * evaluation.results['Ours']['mIoU']:.2f}" in text.read_text()


def test_methods_may_bring_a_network_of_their_own(tmp_path):
    _, common = saved(SEGMENTER, tmp_path / "common.ckpt")
    torch.manual_seed(5)
    model = instantiate(check(SEGMENTER))
    with torch.no_grad():
        model.network.head.classify.bias += torch.tensor([0.0, 50.0, 0.0])  # sees cars everywhere
    model.config = dict(SEGMENTER)
    checkpoint = {"state_dict": model.state_dict()}
    model.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, tmp_path / "own.ckpt")
    evaluation = SegmentationEvaluation(common, networks={"Ours": str(tmp_path / "own.ckpt")}, sources=False)
    batch = batch_of()
    for method in ("Ours", "Other"):
        watch(evaluation, method, batch, batch["a"])
    assert evaluation.results["Ours"]["person"] == evaluation.results["Ours"]["street"] == 0
    assert evaluation.results["Other"] != evaluation.results["Ours"]
    lonely = SegmentationEvaluation(networks={"Ours": str(tmp_path / "own.ckpt")})
    watch(lonely, "Ours", batch, batch["a"])
    assert list(lonely.results) == ["Ours"], "nobody looks at the others"


def test_evaluation_refuses_what_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"downstream\.ckpt_path has no value yet.*toar/saliency_vt5000"):
        SaliencyEvaluation()
    _, path = saved(SEGMENTER, tmp_path / "segmenter.ckpt")
    with pytest.raises(ConfigError, match=r"downstream\.ckpt_path=.*expected a run of experiment=toar/saliency_vt5000"):
        SaliencyEvaluation(path)
    with pytest.raises(DataError, match="no image named 0:"):
        (tmp_path / "few").mkdir()
        from fusion.data.files.image import write_image

        write_image(tmp_path / "few" / "another.png", torch.rand(3, 8, 8))
        evaluation = SegmentationEvaluation(path, fused={"Few": str(tmp_path / "few")})
        watch(evaluation, "Ours", batch_of(), batch_of()["a"])
    batch = batch_of()
    del batch["mask"]
    with pytest.raises(DataError, match="no label maps"):
        watch(SegmentationEvaluation(path, sources=False), "Ours", batch, batch["a"])


def test_saliency_maps_are_made_at_one_size_and_come_back_at_the_images(tmp_path):
    module = SaliencyTraining(CTDNet(channels=8), sizes=(32, 64), size=64, images="a").eval()
    batch = batch_of(classes=2)
    assert module.predict_images(batch["a"]).shape == (2, 40, 48)
    torch.manual_seed(0)
    sizes = []
    module.network.register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[-1]))
    for _ in range(8):
        module.image_losses(batch["a"], batch)
    assert set(sizes) == {32, 64}


def test_trained_network_comes_back_without_its_fuser(tmp_path):
    module, path = saved(SEGMENTER, tmp_path / "segmenter.ckpt")
    loaded = load_trained(path, SegmentationTraining, "key", "experiment")
    assert not loaded._fuser
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.predict_images(x), module.predict_images(x))
