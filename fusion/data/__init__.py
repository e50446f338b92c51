"""Files on disk to batches: pairing, decoding, paired transforms, samplers, data modules."""

from typing import TYPE_CHECKING

from fusion.lazy import exports

if TYPE_CHECKING:
    from fusion.data.batch import TASKS, FusionBatch
    from fusion.data.dataset import PairDataset, Sample, SampleKey
    from fusion.data.files.image import Picture, read_image, read_pair, write_image
    from fusion.data.files.pairs import Pair, pair_folders, pair_scenes
    from fusion.data.labelled import BoxDataset, LabelledDataset, MaskDataset, SaliencyDataset
    from fusion.data.loading.datamodule import TRAIN_SCALE, FusionDataModule
    from fusion.data.loading.joint import JointDataset
    from fusion.data.loading.loader import FusionDataLoader, collate, to_float
    from fusion.data.loading.sampler import AlternatingBatchSampler, EvalBatchSampler
    from fusion.data.loading.turns import TaskTurns
    from fusion.data.sets import (
        FLIR,
        FMB,
        LLVIP,
        M3FD,
        MEFB,
        MFIF,
        MFIFB,
        MFIWHU,
        MSRS,
        RGBNIR,
        SCIE,
        TNO,
        VIFB,
        VT5000,
        FocusQuadruples,
        Folders,
        HarvardMedical,
        Images,
        PanSharpening,
        RealMFF,
        RoadScene,
        SceneDataset,
        SyntheticPairs,
        WithAuxiliary,
    )
    from fusion.data.synthesis.depth import DepthFolder, DepthModel, DepthPlane, ImaginedDepth
    from fusion.data.synthesis.export import DepthMaps, export
    from fusion.data.synthesis.photographs import SampleData
    from fusion.data.synthesis.rules import ExposureSynthesis, FocusSynthesis
    from fusion.data.synthesis.sice import SICEPairs
    from fusion.data.transforms.pair import PairTransform, eval_transform, train_transform

__all__ = [
    "FLIR",
    "FMB",
    "LLVIP",
    "M3FD",
    "MEFB",
    "MFIF",
    "MFIFB",
    "MFIWHU",
    "MSRS",
    "RGBNIR",
    "SCIE",
    "TASKS",
    "TNO",
    "TRAIN_SCALE",
    "VIFB",
    "VT5000",
    "AlternatingBatchSampler",
    "BoxDataset",
    "DepthFolder",
    "DepthMaps",
    "DepthModel",
    "DepthPlane",
    "EvalBatchSampler",
    "ExposureSynthesis",
    "FocusQuadruples",
    "FocusSynthesis",
    "Folders",
    "FusionBatch",
    "FusionDataLoader",
    "FusionDataModule",
    "HarvardMedical",
    "Images",
    "ImaginedDepth",
    "JointDataset",
    "LabelledDataset",
    "MaskDataset",
    "Pair",
    "PairDataset",
    "PairTransform",
    "PanSharpening",
    "Picture",
    "RealMFF",
    "RoadScene",
    "SICEPairs",
    "SaliencyDataset",
    "Sample",
    "SampleData",
    "SampleKey",
    "SceneDataset",
    "SyntheticPairs",
    "TaskTurns",
    "WithAuxiliary",
    "collate",
    "eval_transform",
    "export",
    "pair_folders",
    "pair_scenes",
    "read_image",
    "read_pair",
    "to_float",
    "train_transform",
    "write_image",
]

__getattr__ = exports(__name__, __file__)
