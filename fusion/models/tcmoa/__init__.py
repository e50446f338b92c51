"""TC-MoA: task-customized mixture of adapters for general image fusion (CVPR 2024)."""

from fusion.models.tcmoa.backbone import PyramidBackbone
from fusion.models.tcmoa.benchmark import BenchmarkLoss
from fusion.models.tcmoa.losses import TaskCustomizedLoss, UnifiedLoss
from fusion.models.tcmoa.module import TCMoA

__all__ = ["BenchmarkLoss", "PyramidBackbone", "TCMoA", "TaskCustomizedLoss", "UnifiedLoss"]
