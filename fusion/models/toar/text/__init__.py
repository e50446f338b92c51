"""Instructions to vectors: text encoders, and the features they have made before."""

from fusion.models.toar.text.encoders import TextEncoder
from fusion.models.toar.text.features import TextFeatures
from fusion.models.toar.text.hashed import HashedText
from fusion.models.toar.text.language_model import LanguageModelText
from fusion.models.toar.text.packaged import PackagedText

__all__ = ["HashedText", "LanguageModelText", "PackagedText", "TextEncoder", "TextFeatures"]
