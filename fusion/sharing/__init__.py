"""Models of one's own for others: a folder with a model card, and its way to Hugging Face."""

from fusion.sharing.publish import push_to_hub, save_folder

__all__ = ["push_to_hub", "save_folder"]
