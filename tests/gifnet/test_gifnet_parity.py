"""Our GIFNet against outputs of the released code and checkpoint, where `FUSION_REFERENCE_DIR` holds them.

They are too large to keep here; test_gifnet_network.py holds the network against its formulas with random weights.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

import fusion
from fusion.data.files.image import read_image
from fusion.models.gifnet.network import BRANCHES

REFERENCE = os.environ.get("FUSION_REFERENCE_DIR")
SAMPLES = {
    "Medical": ("Medical/mri/1.png", "Medical/pet/1.png"),
    "MFIF": ("MFIF/vis/1.jpg", "MFIF/ir/1.jpg"),
    "Remote_band1": ("Remote/PAN/1.tif", "Remote/MS_band1/1.tif"),
}


def released(*overrides: str):
    return fusion.load_model("gifnet", Path(REFERENCE or ".") / "data/GIFNet/Final.model", list(overrides))


if REFERENCE:
    GOLDEN = Path(REFERENCE) / "parity" / "gifnet"

    def test_features_and_outputs_of_small_inputs_for_either_main_branch():
        network = released().network
        for case in torch.load(GOLDEN / "small_intermediates.pt", weights_only=True).values():
            pair = torch.cat([case["ir"], case["vis"]], 1)
            for tag, main in enumerate(BRANCHES, 1):
                with torch.no_grad():
                    fused, features = network(pair, main=main)
                    reconstruction = network.reconstruct(features.shared)
                torch.testing.assert_close(fused, case[f"out_tag{tag}"], atol=1e-5, rtol=0)
                torch.testing.assert_close(reconstruction, case["rec_decoder"], atol=1e-5, rtol=0)
                if "encoder" in case:
                    torch.testing.assert_close(features.shared, case["encoder"], atol=1e-5, rtol=0)

    @pytest.mark.parametrize("sample", SAMPLES)
    def test_raw_output_and_saved_picture(sample):
        model = released("model.color=official")
        raw = [torch.from_numpy(np.load(GOLDEN / sample / f"{name}.npy")) for name in ("input_ir", "input_vis")]
        with torch.inference_mode():
            luma = model._fuse_luma(torch.cat(raw, 1), None, 1.0)
        expected = torch.from_numpy(np.load(GOLDEN / sample / "output_Y.npy"))
        torch.testing.assert_close(luma, expected, atol=5e-6, rtol=0)
        a, b = (read_image(Path(REFERENCE) / "data/GIFNet/images" / name).pixels for name in SAMPLES[sample])
        saved = read_image(GOLDEN / sample / "final.png").pixels
        difference = ((model.fuse(a, b).fused[0] * 255).round() - saved).abs()
        assert difference.max() <= 1
        assert (difference > 0).float().mean() < 1e-3  # JPEG decoders differ by a level here and there
