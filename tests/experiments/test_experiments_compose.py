"""Every experiment composes and passes the check; every command that the documentation gives is one the doors take."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

from fusion.errors import ConfigError
from fusion.job.cli import free_controls
from fusion.job.config import check, config_dir

ROOT = Path(__file__).parents[2]
FOLDER = config_dir() / "experiment"
EXPERIMENTS = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.rglob("*.yaml"))
OF_TCMOA = [name for name in EXPERIMENTS if name.startswith("tcmoa/")]
SWEEPS = [name for name in OF_TCMOA if "sweeper" in (FOLDER / f"{name}.yaml").read_text()]
COMMAND = re.compile(r"python -m fusion\.(\w+) ([^`|\n]+)")


def documented_commands() -> list[tuple[str, str]]:
    """Door and arguments, without the plain `experiment=NAME` that the first test has composed."""
    texts = [path.read_text() for path in (*FOLDER.glob("tcmoa/*.yaml"), ROOT / "experiments/tcmoa/README.md")]
    found = {(door, line.strip()) for text in texts for door, line in COMMAND.findall(text)}
    return sorted(found - {("train", f"experiment={name}") for name in EXPERIMENTS})


def jobs(arguments: list[str]) -> list[list[str]]:
    """Jobs of a command line that together have every value of its comma lists; without lists the one job it is."""
    parsed = OverridesParser.create().parse_overrides(arguments)
    lists = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()] if o.is_sweep_override() else [text]
        for o, text in zip(parsed, arguments, strict=True)
    ]
    return [[values[job % len(values)] for values in lists] for job in range(max(map(len, lists)))]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiment_composes_and_passes_the_check(compose, name):
    config = check(compose("train", f"experiment={name}"))
    if name in OF_TCMOA:
        assert config["name"] == name.replace("/", "_"), "runs are told apart by their names"


@pytest.mark.parametrize("name", SWEEPS)
def test_every_job_of_a_sweep_passes_the_check(compose, name):
    cfg = compose("train", f"experiment={name}", return_hydra_config=True)
    assert cfg.hydra.mode == RunMode.MULTIRUN, "it sweeps without being asked by -m"
    models = []
    for job in jobs([f"{key}={values}" for key, values in cfg.hydra.sweeper.params.items()]):
        changed = OmegaConf.merge(cfg, OmegaConf.from_dotlist(job))
        models.append(check(changed.model, "model"))
        assert all(str(OmegaConf.select(changed, key)) == value for key, value in (text.split("=") for text in job))
    assert len(models) > 1
    assert len({str(model) for model in models}) == len(models), "no two jobs of a sweep train the same model"


def test_sweep_over_experts_uses_as_many_as_there_are(compose):
    cfg = compose("train", "experiment=tcmoa/fig8_n")
    for num_experts, top_k in ((1, 1), (2, 2), (6, 2)):
        assert OmegaConf.merge(cfg, {"model": {"num_experts": num_experts}}).model.top_k == top_k
    with pytest.raises(ConfigError, match=r"model\.top_k=2"):
        check(compose("train", "experiment=tcmoa_large", "model.num_experts=1"))


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("t4_multi_sa", "adapter._target_", "fusion.moe.adapters.SingleAdapter"),
        ("t4_multi_ma_nomir", "loss.mir", "none"),
        ("t5_adaptformer_base", "adapter._target_", "fusion.moe.adapters.AdaptFormer"),
        ("t5_frozen_large", "adapter._target_", "fusion.moe.adapters.FrozenBackbone"),
        ("t7_unified_loss", "loss._target_", "fusion.models.tcmoa.UnifiedLoss"),
        ("fig12_isolated_windows", "network.shift", 0),
        ("fig12_no_fusion_conv", "adapter.fusion_layer", "identity"),
        ("fig12_abs_grad", "loss.signed_gradient", False),
    ],
)
def test_ablation_changes_what_it_is_named_after_and_keeps_the_recipe(compose, name, key, value):
    base = "tcmoa_base" if name.endswith("base") else "tcmoa_large"
    cfg, main = compose("train", f"experiment=tcmoa/{name}"), compose("train", f"experiment={base}")
    assert OmegaConf.select(cfg.model, key) == value != OmegaConf.select(main.model, key)
    assert cfg.model.backbone == main.model.backbone
    for part in ("data", "optimizer", "scheduler"):
        assert OmegaConf.to_container(cfg[part]) == OmegaConf.to_container(main[part])
    assert cfg.trainer.max_epochs == main.trainer.max_epochs


@pytest.mark.parametrize("task", ["vif", "mef", "mff"])
def test_single_task_trains_on_data_of_its_task_alone(compose, task):
    config = check(compose("train", f"experiment=tcmoa/t4_single_{task}_sa"))
    tasks = {"llvip": "vif", "scie": "mef", "realmff": "mff", "mfiwhu": "mff"}
    assert {tasks[name] for name, node in config["data"]["train"].items() if node} == {task}
    assert all(tasks[name] == task for name, node in config["data"]["val"].items() if node)
    assert config["model"]["tasks"] == [task]


@pytest.mark.parametrize(("door", "line"), documented_commands(), ids=lambda text: text[:60])
def test_documented_command_composes(compose, door, line):
    for job in jobs(free_controls([argument for argument in shlex.split(line) if argument != "-m"])):
        values = {text.split("=")[0]: text.split("=", 1)[1] for text in job}
        plain_keys = {"ckpt_path", "suite"} & set(values)  # set without composing anew
        cfg = compose(door, *(text for text in job if text.split("=")[0] not in plain_keys))
        assert all(key in cfg for key in plain_keys)
        if "suite" in plain_keys:
            assert (config_dir() / "metrics" / f"{values['suite']}.yaml").is_file()
        if door in ("train", "evaluate"):
            check({key: cfg[key] for key in ("model", "data", "trainer")})
