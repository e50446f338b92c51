"""Folders of fused images -> scores of every image, a leaderboard and its tables."""

from fusion.scoring.folders import PartialError, score_folders

__all__ = ["PartialError", "score_folders"]
