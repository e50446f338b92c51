"""What the commands share: configuration, the command frame, processes, run folders."""

from fusion.job.sweeps import KeepRecord

__all__ = ["KeepRecord"]
