"""Stage two end to end on miniature labelled sets, and what it leaves alone."""

from functools import partial

import pytest
import torch

from fusion.data import FMB, VT5000, FusionDataModule, TaskTurns
from fusion.downstream.saliency import SaliencyTraining
from fusion.downstream.segmentation import SegmentationTraining
from fusion.downstream.tasks import FrozenTask
from fusion.errors import ConfigError, DataError, WeightsError
from fusion.hub import save_weights
from fusion.models.toar import TOAR, BaseFusion, DynamicPrompt
from fusion.models.toar.task_norm import TaskBatchNorm2d, shares_of, task_shares
from fusion.models.toar.text import HashedText

from .conftest import SmallSaliency, SmallSegmenter

INSTRUCTIONS = {
    "segmentation": ["semantic segmentation task", "label every pixel"],
    "saliency": ["salient object detection task", "find what stands out"],
}
NETWORK = {"blocks": 3, "channels": 4}
CLASSES = [f"class {i}" for i in range(14)]


def data_of(root, module=FusionDataModule, **options):
    common = {"labels": True, "transform": None}
    sets = {
        "segmentation": partial(FMB, root / "FMB", group="segmentation", instruction="segmentation", **common),
        "saliency": partial(VT5000, root / "VT5000", group="saliency", instruction="saliency", **common),
    }
    return module(
        train={name: make(split="train") for name, make in sets.items()},
        val={name: make(split="test") for name, make in sets.items()},
        test={name: make(split="test") for name, make in sets.items()},
        batch_size=6,
        crop_size=None,
        hflip=0.0,
        num_workers=0,
        tasks=["segmentation", "saliency"],
        **options,
    )


def pairs_of(data, part="train"):
    """One batch of each task."""
    data.setup("fit" if part == "train" else "test")
    loader = data.train_dataloader() if part == "train" else data.test_dataloader()
    return {batch["instruction"][0]: data.on_after_batch_transfer(batch, 0) for batch in loader}


@pytest.fixture(scope="module")
def base(labelled_dir, tmp_path_factory):
    """A briefly trained base network, as weights."""
    torch.manual_seed(0)
    batch = next(iter(pairs_of(data_of(labelled_dir)).values()))
    model = BaseFusion(NETWORK).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        sum(model.losses(model(batch["a"], batch["b"]), batch).values()).backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_weights(model.state_dict(), path)
    return str(path)


@pytest.fixture(scope="module")
def tasks(labelled_dir, base):
    """Task networks trained on bright versions of what the base network fuses, so that there is something to tailor."""
    torch.manual_seed(0)
    fuser = BaseFusion(NETWORK, weights=base).eval()
    found = {}
    batches = pairs_of(data_of(labelled_dir))
    for name, module in (
        ("segmentation", SegmentationTraining(CLASSES, SmallSegmenter, fuser=fuser)),
        ("saliency", SaliencyTraining(SmallSaliency(), sizes=(), size=None, fuser=fuser)),
    ):
        batch = batches[name]
        images = (module(batch["a"], batch["b"]).fused * 1.25).clamp(0, 1)
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-2)
        for _ in range(80):
            optimizer.zero_grad()
            sum(module.image_losses(images, batch).values()).backward()
            optimizer.step()
        found[name] = module
    return found


@pytest.fixture
def toar(base, tasks):
    """A small T-OAR on the trained base network."""

    def build(**options):
        torch.manual_seed(0)
        site = partial(DynamicPrompt, hidden=32)
        networks = {name: partial(FrozenTask, module) for name, module in tasks.items()}
        arguments = {"network": NETWORK, "base_weights": base, "task_networks": networks, "adapted_dim": 16, **options}
        optimizer = partial(torch.optim.Adam, lr=5e-3)
        return TOAR(site, HashedText(64), INSTRUCTIONS, optimizer=optimizer, eval_metrics=(), **arguments)

    return build


def task_loss(model, batch):
    model.eval()
    with torch.no_grad():
        return float(sum(model.losses(model(batch["a"], batch["b"], **model.batch_controls(batch)), batch).values()))


def score(module, model, batch, instruction):
    scores = module.scores()
    fused = model.fuse(batch["a"], batch["b"], instruction=instruction).fused
    scores.add(module.predict_images(fused), batch)
    values = scores.compute()
    return values["mIoU"] if "mIoU" in values else values["mean_f"]


def test_only_regulation_moves_losses_fall_and_tasks_are_served(labelled_dir, toar, tasks, quick_trainer):
    model, data = toar(), data_of(labelled_dir)
    batches = pairs_of(data_of(labelled_dir))
    model.setup("fit")
    before = {name: task_loss(model, batch) for name, batch in batches.items()}
    plain = {name: score(tasks[name], model, batch, "none") for name, batch in batches.items()}
    frozen = {key: value.clone() for key, value in model.network.state_dict().items()}
    networks = {f"{n}.{k}": v.clone() for n, module in tasks.items() for k, v in module.state_dict().items()}
    start = {key: value.clone() for key, value in model.regulation.state_dict().items()}
    trainer = quick_trainer(40, gradient_clip_val=0.5, check_val_every_n_epoch=40)
    trainer.fit(model, data)
    after = {name: task_loss(model, batch) for name, batch in batches.items()}
    assert all(after[name] < before[name] for name in before), (before, after)
    tailored = {name: score(tasks[name], model, batch, name) for name, batch in batches.items()}
    assert all(tailored[name] >= plain[name] for name in plain), (plain, tailored)
    assert any(tailored[name] > plain[name] for name in plain), (plain, tailored)
    assert all(torch.equal(frozen[key], value) for key, value in model.network.state_dict().items())
    now = {f"{n}.{k}": v for n, module in tasks.items() for k, v in module.state_dict().items()}
    assert all(torch.equal(networks[key], value) for key, value in now.items())
    moved = [key for key, value in model.regulation.state_dict().items() if not torch.equal(start[key], value)]
    assert set(dict(model.regulation.named_parameters())) <= set(moved)
    assert {"val/loss", "val/segmentation/loss", "val/saliency/loss"} <= trainer.callback_metrics.keys()
    batch = batches["saliency"]
    one, same, other = (
        model.fuse(batch["a"], batch["b"], instruction=text).fused
        for text in ("saliency", "salient object detection task", "segmentation")
    )
    assert torch.equal(one, same)
    assert (one - other).abs().max() > 1e-4


def test_tasks_take_turns(labelled_dir, toar, quick_trainer):
    asked = []
    model = toar()
    losses = model.losses
    model.losses = lambda output, batch: asked.append(batch["instruction"][0]) or losses(output, batch)
    options = {"limit_val_batches": 0, "reload_dataloaders_every_n_epochs": 1, "log_every_n_steps": 1}
    trainer = quick_trainer(5, **options)
    trainer.fit(model, data_of(labelled_dir, TaskTurns, turn_epochs=2))
    assert asked == ["segmentation"] * 2 + ["saliency"] * 2 + ["segmentation"]
    losses = {name: value for name, value in trainer.callback_metrics.items() if name.endswith("/loss")}
    assert losses.keys() == {"train/segmentation/loss", "train/saliency/loss"}
    assert all(value > 0 for value in losses.values())
    with pytest.raises(ConfigError, match="reload_dataloaders_every_n_epochs=1"):
        quick_trainer(1).fit(toar(), data_of(labelled_dir, TaskTurns, turn_epochs=2))


def test_turns_go_on_where_a_run_stopped(labelled_dir, toar, quick_trainer, tmp_path):
    def train(epochs, **fit):
        asked, model = [], toar()
        losses = model.losses
        model.losses = lambda output, batch: asked.append(batch["instruction"][0]) or losses(output, batch)
        trainer = quick_trainer(epochs, limit_val_batches=0, reload_dataloaders_every_n_epochs=1)
        trainer.fit(model, data_of(labelled_dir, TaskTurns, turn_epochs=2), **fit)
        return trainer, model, asked

    whole, _, _ = train(5)
    first, _, _ = train(3)
    first.save_checkpoint(tmp_path / "three.ckpt")
    second, model, asked = train(5, ckpt_path=str(tmp_path / "three.ckpt"), weights_only=True)
    assert asked == ["saliency", "segmentation"]
    for (name, one), two in zip(whole.model.regulation.named_parameters(), model.regulation.parameters(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_checkpoint_brings_base_network_and_text_features(labelled_dir, toar, quick_trainer, tmp_path):
    trained = toar()
    trainer = quick_trainer(2, limit_val_batches=0)
    trainer.fit(trained, data_of(labelled_dir))
    trainer.save_checkpoint(tmp_path / "stage2.ckpt")
    content = torch.load(tmp_path / "stage2.ckpt", weights_only=True)
    assert set(content["text_features"]["vectors"]) == {text for texts in INSTRUCTIONS.values() for text in texts}
    assert content["fusion"]["task_networks"].keys() == {"segmentation", "saliency"}
    other = toar(base_weights=None, task_networks=None)
    other.on_load_checkpoint(content)
    other.load_state_dict(content["state_dict"])
    a, b = torch.rand(1, 3, 20, 26), torch.rand(1, 3, 20, 26)
    one, two = (model.fuse(a, b, instruction="saliency").fused for model in (trained, other))
    assert torch.equal(one, two)
    assert other.text.known().keys() == content["text_features"]["vectors"].keys()


def test_controls_choose_mix_and_weigh_instructions(toar):
    model = toar()
    for site in model.regulation.sites.values():
        torch.nn.init.normal_(site.last.weight, std=0.3)
    a, b = torch.rand(2, 3, 16, 20), torch.rand(2, 3, 16, 20)

    def fused(instruction, **controls):
        return model.fuse(a, b, instruction=instruction, **controls).fused

    plain, saliency, segmentation = fused("none"), fused("saliency"), fused("segmentation")
    assert torch.equal(fused(None), plain), "nothing said and no default: plain fusion"
    assert torch.equal(fused("saliency", strength=0.0), plain)
    assert (saliency - plain).abs().max() > 1e-3
    assert torch.equal(fused({"saliency": 1.0, "segmentation": 0.0}), saliency)
    each = fused(["saliency", "segmentation"])
    torch.testing.assert_close(each[0], saliency[0])
    torch.testing.assert_close(each[1], segmentation[1])
    assert not torch.equal(fused("something else altogether"), saliency)
    model.instruction = "saliency"
    assert torch.equal(fused(None), saliency)
    with pytest.raises(ConfigError, match="3 instructions for 2 images"):
        fused(["saliency"] * 3)


def test_mistakes_get_one_line(toar, tasks, tmp_path, labelled_dir):
    model = toar(task_networks=None)
    with pytest.raises(ConfigError, match=r"model\.task_networks is empty"):
        model.setup("fit")
    with pytest.raises(ConfigError, match=r"model\.base_weights is null"):
        toar(base_weights=None).setup("fit")
    with pytest.warns(UserWarning, match="not trained"):
        toar(base_weights=None).fuse(torch.rand(3, 8, 8), torch.rand(3, 8, 8))
    batch = pairs_of(data_of(labelled_dir))["saliency"]
    model = toar()
    model.setup("fit")
    output = model(batch["a"], batch["b"])
    with pytest.raises(DataError, match="no instruction"):
        model.losses(output, {key: value for key, value in batch.items() if key != "instruction"})
    with pytest.raises(ConfigError, match="expected one task"):
        model.losses(output, {**batch, "instruction": ["saliency", "segmentation"] * 3})
    save_weights(
        {key: value for key, value in model.state_dict().items() if "network" in key}, tmp_path / "one.safetensors"
    )
    with pytest.raises(WeightsError, match=r"model\.base_weights"):
        model.load_weights(str(tmp_path / "one.safetensors"))
    config = {"instructions": INSTRUCTIONS, "task_networks": {"counting": None}}
    with pytest.raises(ConfigError, match=r"task_networks\.counting"):
        TOAR.check_config(config)
    with pytest.raises(ConfigError, match=r"model\.network\.depth"):
        TOAR.check_config({"instructions": INSTRUCTIONS, "network": {"depth": 4}})


def test_running_statistics_by_task_leave_each_other_alone(labelled_dir, toar):
    model = toar(task_bn=True)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in toar().parameters())
    batches = pairs_of(data_of(labelled_dir))
    model.train()
    for _ in range(3):
        batch = batches["saliency"]
        model(batch["a"], batch["b"], **model.batch_controls(batch))
    norms = [module for module in model.regulation.modules() if isinstance(module, TaskBatchNorm2d)]
    assert len(norms) == 2 * 2 * 4  # encoders, sites of three blocks, norms of a site
    for norm in norms:
        assert norm.num_batches_tracked.tolist() == [0, 3]  # segmentation, saliency
        assert norm.running_mean[1].any() and not norm.running_mean[0].any()
    again = toar(task_bn=True)
    again.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="running_mean"):
        toar().load_state_dict(model.state_dict())


def test_images_of_several_tasks_are_normed_as_alone():
    torch.manual_seed(0)
    norm, plain = TaskBatchNorm2d(3, 2), torch.nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5) * 2 + 1
    norm.shares = shares_of(["b", "b", "b", "b"], ["a", "b"])
    torch.testing.assert_close(norm(x), plain(x))
    torch.testing.assert_close(norm.running_var[1], plain.running_var)
    mixed = shares_of(["a", "b", None, "b"], ["a", "b"])
    for module in (norm, plain):
        module.eval()
    norm.shares = mixed
    made = norm(x)
    torch.testing.assert_close(made[[1, 3]], plain(x)[[1, 3]])
    torch.testing.assert_close(made[0], x[0] / (1 + norm.eps) ** 0.5)
    between = (x[2] - norm.running_mean.mean(0)[:, None, None]) / (norm.running_var.mean(0) + norm.eps).sqrt()[
        :, None, None
    ]
    torch.testing.assert_close(made[2], between)
    norm.train()
    before = norm.running_mean.clone()
    torch.testing.assert_close(norm(x)[[1, 3]], torch.nn.BatchNorm2d(3)(x[[1, 3]]))
    assert not torch.equal(norm.running_mean, before)


def test_mixed_instructions_mix_the_statistics(toar):
    model = toar(task_bn=True)
    read = partial(task_shares, instructions=model.instructions, recognise=model.recognise)
    found = read({"segmentation": 3.0, "find what stands out": 1.0}, 2)
    assert found.tolist() == [[0.75, 0.25], [0.75, 0.25]]
    assert read(["saliency", "none"], 2).tolist() == [[0.0, 1.0], [0.5, 0.5]]
    assert read("label every pixel", 1).tolist() == [[1.0, 0.0]]
