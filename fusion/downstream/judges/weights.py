"""Loading of released judges' weights."""

from pathlib import Path

from torch import nn

from fusion.errors import ConfigError
from fusion.hub import load_strict, locate, read_state


def load_released(network: nn.Module, weights: str | Path | None, who: str) -> None:
    """Load a state dict strictly, opened with `weights_only`; a network without parameters opens its own file.

    Args:
        network: gets the weights.
        weights: path of the file.
        who: whose they are, for messages.

    Raises:
        ConfigError: no path.
        WeightsError: missing, damaged, holding more than tensors, or of another network.
    """
    if not weights:
        raise ConfigError(f"the weights of {who} are not part of this package: give weights=FILE (see conf/downstream)")
    path = locate(weights)
    open_file = getattr(network, "open", None)
    if open_file is not None:
        open_file(path)
        return
    counters = {key for key in network.state_dict() if key.endswith("num_batches_tracked")}
    load_strict(network, read_state(path), str(weights), may_miss=counters)
