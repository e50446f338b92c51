"""Dry runs of experiments whose data sets are not at hand."""

import logging
from collections.abc import Mapping
from typing import Any

from lightning import LightningDataModule

from fusion.api import compose
from fusion.errors import DataError
from fusion.job.config import instantiate

log = logging.getLogger(__name__)
SMALL = {"batch_size": 1, "crop_size": 224, "num_workers": 0}
"""What a dry run needs of a loader; enough for the windows of any model."""


def dry_run_data(config: Mapping[str, Any]) -> LightningDataModule:
    """The configured data, or, where they are missing, the sample data in small batches.

    `trainer.fast_dev_run` asks whether a run builds and steps; it should answer before a hundred gigabytes are downloaded.

    Args:
        config: plain configuration of conf/train.yaml.
    """
    data: LightningDataModule = instantiate(config["data"])
    try:
        data.prepare_data()
        data.setup("fit")
        return data
    except DataError as error:
        log.warning("fast_dev_run with the sample data, because: %s", str(error).splitlines()[0])
    overrides = ["data=samples", f"paths.data_dir={config['paths']['data_dir']}", f"seed={config['seed']}"]
    samples = compose("train", [*overrides, *(f"data.{key}={value}" for key, value in SMALL.items())], "data")
    return instantiate(samples)
