"""Task-oriented adaptive regulation (T-OAR): prompts made from an instruction and injected into features (Sec. 3.3)."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fusion.models.gathered import Gathered
from fusion.models.toar.conv_residual import SLOPE
from fusion.models.toar.dynamic_conv import dynamic_conv2d

SOURCES = ("infrared", "visible")
Whole = Callable[[str, Tensor], tuple[Tensor, Tensor]]
"""Mean and maximum over a picture, each `(B, C)`, of features that have a name."""


def of_all(name: str, features: Tensor) -> tuple[Tensor, Tensor]:
    """Of what is there."""
    return features.mean((2, 3)), features.amax((2, 3))


class PromptInjection(nn.Module, ABC):
    """One site: features of one encoder and the instruction to a prompt that is added to them, Eqs. 7 and 8.

    Subclasses say how the two meet, in `meet`.

    Args:
        channels: of the features, C.
        text_dim: of the instruction's vector.
        zero_conv: end in a 1x1 convolution that starts from zero, so that training starts from the base network
            (released code); False adds the prompt as Eq. 8 has it.
    """

    text: ClassVar[str] = "adapted"
    """How the instruction gets here: "adapted" to the domain of images, "plain" as the text encoder has it, "none"."""

    def __init__(self, channels: int, text_dim: int, zero_conv: bool = True) -> None:
        super().__init__()
        self.norm = nn.Sequential(nn.BatchNorm2d(channels), nn.LeakyReLU(SLOPE))
        widths = (channels, 2 * channels, 2 * channels, channels)
        self.convs = nn.Sequential(*(_conv(i, o) for i, o in pairwise(widths)))
        self.last: nn.Module = nn.Identity()
        if zero_conv:
            self.last = nn.Conv2d(channels, channels, 1)
            for parameter in self.last.parameters():
                nn.init.zeros_(parameter)

    @abstractmethod
    def meet(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """Features `(B, C, H, W)` and instruction `(B, text_dim)` to `(B, C, H, W)`.

        Args:
            features: of one encoder.
            text: the instruction.
            whole: mean and maximum over the picture of features, by a name; where these are tiles, of the whole picture.
        """

    def forward(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """The prompt `(B, C, H, W)`."""
        return self.last(self.convs(self.norm(self.meet(features, text, whole))))


class DynamicPrompt(PromptInjection):
    """T-DPI: a kernel per image, predicted from the instruction and the image's own statistics, Eq. 6.

    Args:
        channels, text_dim, zero_conv: see `PromptInjection`.
        hidden: width of the kernel predictor (CPPB).
        image_statistics: False predicts from the instruction alone (Model VI of Table 4).
    """

    def __init__(
        self, channels: int, text_dim: int, zero_conv: bool = True, hidden: int = 512, image_statistics: bool = True
    ) -> None:
        super().__init__(channels, text_dim, zero_conv)
        self.mean_conv = nn.Conv2d(channels, channels, 3, padding=1) if image_statistics else None
        self.max_conv = nn.Conv2d(channels, channels, 3, padding=1) if image_statistics else None
        known = text_dim + (2 * channels if image_statistics else 0)
        self.predictor = nn.Sequential(nn.Linear(known, hidden), nn.Linear(hidden, 9 * channels**2))

    def kernels(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """Predicted kernels `(B, C, C, 3, 3)`."""
        known = [text]
        if self.mean_conv is not None and self.max_conv is not None:
            mean, most = whole("mean", self.mean_conv(features))[0], whole("max", self.max_conv(features))[1]
            known = [mean, most, text]
        channels = features.shape[1]
        return self.predictor(torch.cat(known, dim=1)).view(-1, channels, channels, 3, 3)

    def meet(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """Each image under its own kernel."""
        return dynamic_conv2d(features, self.kernels(features, text, whole).to(features.dtype))


class StaticPrompt(PromptInjection):
    """Model II of Table 4: a learned kernel in place of the predicted one; no instruction. Arguments as above."""

    text = "none"

    def __init__(self, channels: int, text_dim: int, zero_conv: bool = True) -> None:
        super().__init__(channels, text_dim, zero_conv)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def meet(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """The same kernel for all."""
        return self.conv(features)


class TextSum(PromptInjection):
    """Model IV of Table 4: the instruction, as one number per channel, is added to the features. Arguments as above."""

    text = "plain"

    def __init__(self, channels: int, text_dim: int, zero_conv: bool = True) -> None:
        super().__init__(channels, text_dim, zero_conv)
        self.to_channels = nn.Linear(text_dim, channels)

    def meet(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """The sum."""
        return features + self.to_channels(text)[:, :, None, None]


class TextConcat(TextSum):
    """Model V of Table 4: as Model IV, but the channels of the instruction stand beside those of the features."""

    def __init__(self, channels: int, text_dim: int, zero_conv: bool = True) -> None:
        super().__init__(channels, text_dim, zero_conv)
        self.conv = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def meet(self, features: Tensor, text: Tensor, whole: Whole = of_all) -> Tensor:
        """A convolution of both."""
        spread = self.to_channels(text)[:, :, None, None].expand_as(features)
        return self.conv(torch.cat([features, spread], dim=1))


class Regulation(nn.Module):
    """T-OAR: 2 (M - 1) sites and the adapter from the domain of text to that of images; 5,794,240 parameters.

    Args:
        site: makes one site from `channels` and `text_dim`.
        text_dim: of the text encoder's vectors (LLaMA: 4096).
        channels: of the base network's encoders.
        sites: per encoder, M - 1.
        adapted_dim: of the adapted instruction.
        share_adapter: one adapter for all sites (released code, and the paper's 5.79 M), or one each (Fig. 4).
    """

    def __init__(
        self,
        site: Callable[..., PromptInjection],
        text_dim: int = 4096,
        channels: int = 8,
        sites: int = 3,
        adapted_dim: int = 512,
        share_adapter: bool = True,
    ) -> None:
        super().__init__()
        made: Any = getattr(site, "func", site)
        kind = made.text  # of the class, also where the configuration made a partial of it
        names = [f"{source}_{index}" for source in SOURCES for index in range(sites)]
        dim = adapted_dim if kind == "adapted" else text_dim
        self.sites = nn.ModuleDict({name: site(channels=channels, text_dim=dim) for name in names})
        self.adapters = nn.ModuleDict()
        for name in (["shared"] if share_adapter else names) if kind == "adapted" else []:
            self.adapters[name] = nn.Sequential(nn.Linear(text_dim, adapted_dim), nn.Linear(adapted_dim, adapted_dim))

    @property
    def is_trained(self) -> bool:
        """Whether some site's closing convolution has left zero; sites without one cannot tell."""
        last = [site.last for site in self.sites.values()]
        values = [value for layer in last if isinstance(layer, nn.Conv2d) for value in (layer.weight, layer.bias)]
        return any(bool(value.any()) for value in values if value is not None)

    def adapt(self, text: Tensor) -> dict[str, Tensor]:
        """Text features `(B, text_dim)` to what each site gets, by site."""
        adapted = {name: adapter(text) for name, adapter in self.adapters.items()}
        return {name: adapted.get(name, adapted.get("shared", text)) for name in self.sites}

    def forward(
        self,
        source: str,
        index: int,
        features: Tensor,
        adapted: dict[str, Tensor],
        gathered: Gathered | None = None,
    ) -> Tensor:
        """Prompt of a site for features `(B, C, H, W)`; `gathered` where these are of a tile."""
        name = f"{source}_{index}"
        if gathered is None:
            return self.sites[name](features, adapted[name])
        return self.sites[name](features, adapted[name], lambda what, seen: gathered(f"{name}.{what}", seen))


def _conv(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.BatchNorm2d(out_channels), nn.LeakyReLU(SLOPE)
    )
