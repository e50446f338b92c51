"""Files on disk to batches: pairing, decoding, paired transforms, samplers, data modules."""

from fusion.data.batch import TASKS, FusionBatch
from fusion.data.datamodule import TRAIN_SCALE, FusionDataModule
from fusion.data.dataset import PairDataset, Sample, SampleKey
from fusion.data.image import Picture, read_image, read_pair, write_image
from fusion.data.joint import JointDataset
from fusion.data.loader import FusionDataLoader, collate, to_float
from fusion.data.pairs import Pair, pair_folders, pair_scenes
from fusion.data.sampler import AlternatingBatchSampler, EvalBatchSampler
from fusion.data.samples import SampleData
from fusion.data.sets import (
    LLVIP,
    MEFB,
    MFIF,
    MFIFB,
    MFIWHU,
    SCIE,
    TNO,
    VIFB,
    Folders,
    RealMFF,
    RoadScene,
    SceneDataset,
)
from fusion.data.sice import SICEPairs
from fusion.data.transforms import PairTransform, eval_transform, train_transform

__all__ = [
    "LLVIP",
    "MEFB",
    "MFIF",
    "MFIFB",
    "MFIWHU",
    "SCIE",
    "TASKS",
    "TNO",
    "TRAIN_SCALE",
    "VIFB",
    "AlternatingBatchSampler",
    "EvalBatchSampler",
    "Folders",
    "FusionBatch",
    "FusionDataLoader",
    "FusionDataModule",
    "JointDataset",
    "Pair",
    "PairDataset",
    "PairTransform",
    "Picture",
    "RealMFF",
    "RoadScene",
    "SICEPairs",
    "Sample",
    "SampleData",
    "SampleKey",
    "SceneDataset",
    "collate",
    "eval_transform",
    "pair_folders",
    "pair_scenes",
    "read_image",
    "read_pair",
    "to_float",
    "train_transform",
    "write_image",
]
