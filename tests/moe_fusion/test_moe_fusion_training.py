"""Training end to end on a miniature M3FD, the recipe, checkpoints, and the figures of the experts."""

import csv
from functools import partial
from statistics import fmean

import pytest
import torch
from PIL import Image

import fusion
from fusion.analysis.expert_maps import expert_maps, statistics
from fusion.analysis.scenes import Scene, Study
from fusion.data import M3FD
from fusion.data.sets.folders import Folders
from fusion.errors import ConfigError
from fusion.losses import box_mask
from fusion.models.moe_fusion import BoxAttention, MoEFusion
from fusion.training.schedules import multi_step

SMALL = [
    "model/attention=detector_small",
    "model.attention.detector.channels=16",
    "model.attention.detector.hidden=32",
    "model.local.grid=[8,12]",
    "model.decoder.grid=[4,6]",
    "model.decoder.widths=[32,16,8]",
    "model.network.channels=8",
]
DATA = [
    "data.train.m3fd.resize=[64,96]",
    "data.train.m3fd.skip=2",
    "data.val.pairs.resize=[64,96]",
    "data.val.pairs.limit=2",
    "data.test.m3fd.resize=[64,96]",
    "data.test.m3fd.limit=2",
    "data.batch_size=2",
    "data.num_workers=0",
]


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_experiment_trains_end_to_end_on_boxes(door, m3fd, tmp_path):
    run = tmp_path / "run"
    options = [
        "trainer.max_epochs=6",
        "trainer.log_every_n_steps=1",
        "optimizer.lr=1e-3",
        "logger=csv",
        "callbacks.images=null",
    ]
    status, said = door(
        "train", "experiment=moe_fusion", *SMALL, *DATA, *options, f"paths.data_dir={m3fd}", f"run_dir={run}"
    )
    assert status == 0, said
    table = rows(run / "metrics.csv")
    trained = [row for row in table if row.get("train/vif/pixel")]
    assert len(trained) == 24
    names = [name.removeprefix("train/vif/") for name in table[0] if name.startswith("train/vif/")]
    detectors = [[name for name in names if name.startswith(f"{source}_")] for source in "ab"]
    assert [len(terms) for terms in detectors] == [4, 4] and {"pixel", "gradient", "load", "loss"} <= set(names)
    for group in (["pixel"], ["gradient"], ["loss"], *detectors):
        values = [sum(float(row[f"train/vif/{name}"]) for name in group) for row in trained]
        assert fmean(values[-4:]) < fmean(values[:4]), group
    watched = [row for row in table if row.get("gates/vif/foreground/0")]
    assert len(watched) == 6
    for site in ("foreground", "background", "global"):
        assert all(0 <= float(row[f"routing/vif/{site}/entropy"]) <= 1 for row in watched)
        assert sum(float(watched[-1][f"gates/vif/{site}/{expert}"]) for expert in range(4)) == pytest.approx(
            1, abs=1e-5
        )
    model = fusion.load_model(ckpt_path=run)  # knows its model; loads no pretrained weights
    a, b = torch.rand(2, 3, 50, 70)
    assert model.fuse(a, b).fused.shape == (1, 3, 50, 70)
    figures = tmp_path / "figures"
    status, said = door(
        "analyze", "kind=expert_maps", f"ckpt_path={run}", "data=m3fd", "data.train.m3fd=null", "data.test.m3fd.limit=2",
        "device=cpu", f"paths.data_dir={m3fd}", f"run_dir={figures}",
    )  # fmt: skip
    assert status == 0, said
    assert len(rows(figures / "expert_maps.csv")) == 2 * 3 * 4 and len(list(figures.glob("*.png"))) == 2


def test_data_without_boxes_is_refused_in_one_line(door, m3fd, tmp_path):
    nothing = [
        "data.train.m3fd.labels=false",
        "data.train.m3fd.require_boxes=false",
        f"run_dir={tmp_path}",
        "logger=none",
    ]
    status, said = door("train", "experiment=moe_fusion", *SMALL, *DATA, *nothing, f"paths.data_dir={m3fd}")
    assert status == 2 and "learn from boxes and this data has none" in said and "Traceback" not in said


def test_learning_rate_drops_where_the_paper_s_does():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    schedule = multi_step(optimizer, steps_per_epoch=10, epochs=24, milestones=[0.6666667, 0.9166667])
    rates = []
    for _ in range(240):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert [rates[0], rates[159], rates[160], rates[219], rates[220]] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    with pytest.raises(ConfigError, match=r"scheduler\.milestones=\[16, 22\]: expected shares"):
        multi_step(optimizer, 10, 24, milestones=[16, 22])


def test_everything_decays_as_in_the_released_code(build):
    model = build()
    (group,) = model.parameter_groups(1e-4)
    assert group["weight_decay"] == 1e-4 and len(group["params"]) == len(list(model.parameters()))
    model.decay_all = False
    assert {g["weight_decay"] for g in model.parameter_groups(1e-4)} == {0.0, 1e-4}


def test_official_weights_load_by_path(build, official_weights, golden, tmp_path, router):
    from fusion.models.moe_fusion import MixtureOfGlobalExperts, MixtureOfLocalExperts, MoEFusionLoss, UniformAttention

    wrapped = {f"bbox_head.{key}": value for key, value in official_weights.items()} | {
        "backbone.conv1.weight": torch.zeros(1)
    }
    torch.save({"state_dict": wrapped}, tmp_path / "epoch_24.pth")
    model = MoEFusion(
        UniformAttention(),
        partial(MixtureOfLocalExperts, grid=(16, 24)),
        partial(MixtureOfGlobalExperts, grid=(8, 12)),
        router,
        MoEFusionLoss(),
        weights=str(tmp_path / "epoch_24.pth"),
        color="gray",
    )
    attention = torch.maximum(golden["att_rgb"], golden["att_tir"])
    attention = torch.nn.functional.interpolate(attention, (64, 96), mode="bilinear", align_corners=True)
    in_range = golden["im_r"].clamp(0, 1), golden["im_i"].clamp(0, 1)
    assert torch.equal(in_range[0], golden["im_r"]) and torch.equal(in_range[1], golden["im_i"])
    fused = model.fuse(*in_range, attention=attention).fused
    torch.testing.assert_close(fused, golden["eval"]["fused"].clamp(0, 1), atol=1e-5, rtol=0)


def test_expert_statistics_by_hand(build):
    model = build()
    a, b = torch.rand(2, 1, 3, 8, 8)
    with torch.no_grad():
        output = model(a, b, show_experts=True)
    values = torch.zeros(4, 1, 1, 8, 8)
    values[0, ..., :2] = 1.0  # where the attention will be
    values[1, ..., 6:] = 3.0  # where it will not
    output.extras["experts"] = {"foreground": values}
    output.extras["attention"] = torch.zeros(1, 1, 8, 8)
    output.extras["attention"][..., :2] = 1
    found = statistics(Scene("vif", "set", "0", a, b), output)
    assert [row["foreground"] for row in found] == pytest.approx([1, 0, 0, 0])
    assert [row["background"] for row in found] == pytest.approx([0, 1, 0, 0])
    assert [row["gate"] for row in found] == pytest.approx(output.routings[0].weights[0].tolist())


def test_expert_maps_are_drawn_and_other_models_are_refused(build, m3fd, tmp_path):
    model = build()
    pairs = Folders(m3fd / "M3FD" / "Vis", m3fd / "M3FD" / "Ir", "vif", limit=2)
    from fusion.analysis.scenes import scenes

    study = Study(model, partial(scenes, [pairs], None, None, model), tmp_path, {"pairs": 1})
    paths = expert_maps(study)
    assert [path.suffix for path in paths] == [".png", ".csv"]
    with Image.open(paths[0]) as picture:
        low, high = picture.convert("L").getextrema()
        assert low < high and min(picture.size) > 100
    average = fusion.load_model("average")
    with pytest.raises(ConfigError, match="Average as configured has no experts on whole images"):
        expert_maps(Study(average, partial(scenes, [pairs], None, None, average), tmp_path))


def test_boxes_of_the_data_are_the_foreground_that_is_shown(build, m3fd):
    from fusion.analysis.scenes import run, scenes

    pairs = M3FD(m3fd / "M3FD", limit=1)
    own, (height, width) = pairs.load(0)["boxes"], pairs.load(0)["a"].shape[-2:]
    model = build(attention=BoxAttention())
    for side, scale in ((None, 1.0), (max(height, width) // 2, 0.5)):
        (scene,) = scenes([pairs], None, side, model)
        assert scene.boxes is not None and torch.allclose(scene.boxes, own * scale)
        shown = run(model, scene).extras["attention"]
        assert torch.equal(shown, box_mask([own * scale], scene.a.shape[-2:])) and 0 < shown.mean() < 1
    (scene,) = scenes([pairs], None, None, fusion.load_model("average"))
    assert run(fusion.load_model("average"), scene).fused.shape == scene.a.shape
