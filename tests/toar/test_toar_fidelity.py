"""What keeps tailored images natural: nothing asked of plain fusion, new detail and other tones are."""

from functools import partial

import pytest
import torch

from fusion.errors import ConfigError
from fusion.models.toar import TOAR, DynamicPrompt, Fidelity, color
from fusion.models.toar.text import HashedText

TASKS = {"detection": ["object detection task"]}


class Nothing:
    """A task network without a wish."""

    digest = "none"

    def check_data(self, datamodule):
        """Takes all."""

    def losses(self, images, batch):
        return {"wish": 0 * images.sum()}


def model_of(**options):
    torch.manual_seed(0)
    arguments = {"network": {"blocks": 2, "channels": 4}, "adapted_dim": 8, **options}
    return TOAR(partial(DynamicPrompt, hidden=8), HashedText(64), TASKS, **arguments)


def test_plain_fusion_costs_nothing_and_stripes_more_than_the_sources_own_detail():
    terms = Fidelity(tone=1.0, detail=1.0)
    plain, infrared, visible = torch.rand(3, 2, 1, 16, 16).unbind(0)
    assert all(float(value) == 0 for value in terms(plain, plain, infrared, visible).values())
    flat = torch.full((1, 1, 16, 16), 0.5)
    stripes = flat + 0.1 * (torch.arange(16) % 4 < 2)
    brighter = terms(flat + 0.1, flat, flat, flat)
    assert float(brighter["tone"]) == pytest.approx(0.1)
    assert float(brighter["detail"]) < 0.5 * float(terms(stripes, flat, flat, flat)["detail"])  # the border alone
    assert float(terms(stripes, flat, stripes, flat)["detail"]) == 0 < float(terms(stripes, flat, flat, flat)["detail"])
    with pytest.raises(ConfigError, match="tone=-1"):
        Fidelity(tone=-1)


def test_it_stands_beside_the_task_s_loss_and_pulls_towards_plain_fusion():
    model = model_of(fidelity=Fidelity(), bn_momentum=0.25)
    assert {norm.momentum for norm in model.regulation.modules() if isinstance(norm, torch.nn.BatchNorm2d)} == {0.25}
    model._tasks = {"detection": Nothing()}
    batch = {
        "a": torch.rand(2, 3, 16, 20),
        "b": torch.rand(2, 3, 16, 20),
        "instruction": ["detection"] * 2,
        "task": "vif",
    }
    model.train()
    start = model.losses(model(batch["a"], batch["b"], instruction="detection"), batch)
    assert list(start) == ["wish", "tone", "detail"] and all(float(value.detach()) == 0 for value in start.values())
    for site in model.regulation.sites.values():
        torch.nn.init.normal_(site.last.weight, std=0.3)
    terms = model.losses(model(batch["a"], batch["b"], instruction="detection"), batch)
    assert float(terms["tone"].detach()) > 0
    sum(terms.values()).backward()
    assert all(site.last.weight.grad.abs().sum() > 0 for site in model.regulation.sites.values())
    luma = model(batch["a"], batch["b"]).extras["luma"]
    torch.testing.assert_close(luma, model.network(batch["b"][:, :1], color.split(batch["a"])[0]))
    assert list(model_of()._kept(model(batch["a"], batch["b"]), batch)) == []


def test_an_impossible_momentum_is_refused():
    with pytest.raises(ConfigError, match="model.bn_momentum=0"):
        TOAR.check_config({"instructions": TASKS, "bn_momentum": 0})
