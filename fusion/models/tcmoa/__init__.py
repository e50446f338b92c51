"""TC-MoA: task-customized mixture of adapters for general image fusion (CVPR 2024)."""

from fusion.models.tcmoa.losses import TaskCustomizedLoss, UnifiedLoss
from fusion.models.tcmoa.module import TCMoA

__all__ = ["TCMoA", "TaskCustomizedLoss", "UnifiedLoss"]
