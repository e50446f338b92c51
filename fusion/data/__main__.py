"""Look at data and make it: `python -m fusion.data action=verify|describe|prepare|synthesize|label data=NAME`."""

from omegaconf import DictConfig

from fusion.errors import ConfigError
from fusion.job.cli import command
from fusion.job.config import check, check_early, instantiate


def rewrite(arguments: list[str]) -> list[str]:
    """Lets `--help` stand without `data=`, which every action needs."""
    helps = {"--help", "-h"} & set(arguments) and not any(a.startswith("data=") for a in arguments)
    return [*arguments, "data=samples"] if helps else arguments


@command("data", prepare=rewrite)
def main(cfg: DictConfig) -> None:
    """Command `python -m fusion.data`."""
    check_early(cfg)
    from fusion.data import actions, verify  # late: they import PyTorch and Lightning

    config = check(cfg)
    action = config["action"]
    if action not in actions.ACTIONS:
        raise ConfigError(f"action={action}: expected one of {', '.join(actions.ACTIONS)}")
    data = instantiate(config["data"])
    if action == "describe":
        actions.describe(data)
    else:
        data.prepare_data()
    if action == "prepare" and data.prepare is None:
        print("nothing to prepare: this data is used as it is published (action=describe says where to get it)")
    if action == "verify":
        actions.verify_all(data, config["threads"])
    if action == "synthesize":
        actions.synthesize(data, config)
    if action == "label":
        from fusion.downstream.judges.labelling import label_data

        label_data(data, config)
    if config["contact_sheet"]:
        datasets = [dataset for part in data.parts.values() for dataset in part.values()]
        print(f"contact sheet: {verify.contact_sheet(datasets, config['contact_sheet'])}")


if __name__ == "__main__":
    main()
