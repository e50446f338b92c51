"""No adapter: the baseline "FrozenBackbone" of TC-MoA's Table 5."""

from fusion.moe.adapters.base import Adapter


class FrozenBackbone(Adapter):
    """The backbone stays frozen but for its final linear layer; the streams are averaged after the encoder."""

    unfreeze = ("decoder_pred.",)
    trains_positions = False
