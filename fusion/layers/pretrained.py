"""ImageNet weights of torchvision networks, or weights from a file."""

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from fusion.errors import WeightsError


def trunk_state(name: str, weights: str) -> dict[str, Tensor]:
    """State dict of a torchvision classifier without its last layer.

    Args:
        name: torchvision name, such as "resnet18".
        weights: "imagenet" (downloaded once), or the name or path of a file.

    Raises:
        WeightsError: unavailable; the message names the file and where to put it.
    """
    if weights != "imagenet":
        from fusion.hub import locate, read_state

        state = read_state(locate(weights))
    else:
        entry = get_model_weights(name)["IMAGENET1K_V1"]
        try:
            state = dict(entry.get_state_dict(progress=False, check_hash=True))
        except (OSError, RuntimeError) as error:
            raise WeightsError(
                f"ImageNet weights of {name} could not be downloaded ({error}): put {entry.url} into "
                f"{torch.hub.get_dir()}/checkpoints, give the path of a file, or start from random ones with weights=null"
            ) from error
    return {key: value for key, value in state.items() if not key.startswith(("fc.", "classifier."))}
