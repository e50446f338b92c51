"""Two real processes see together what one process sees, and evaluate every image once."""

import json
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as pl

from fusion.data import LLVIP, MEFB, TNO, FusionDataModule, RealMFF

from .conftest import Recorder

WORKER = """
import json, sys
from pathlib import Path
import lightning.pytorch as pl
import torch
from fusion.data import LLVIP, MEFB, TNO, FusionDataModule, RealMFF

class Recorder(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.tested = [], []
    def training_step(self, batch, batch_idx):
        self.seen.append([batch["task"], batch["name"]])
        return self.weight * batch["a"].mean()
    def test_step(self, batch, batch_idx):
        self.tested.append(batch["name"][0])
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

root, out = Path(sys.argv[1]), Path(sys.argv[2])
data = FusionDataModule(
    train={"l": LLVIP(root / "LLVIP"), "m": MEFB(root / "MEFB"), "r": RealMFF(root / "RealMFF")},
    test={"t": TNO(root / "TNO", limit=3)}, batch_size=1, crop_size=16, num_workers=0, seed=5,
)
trainer = pl.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2, use_distributed_sampler=False, logger=False,
    enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
)
model = Recorder()
trainer.fit(model, datamodule=data)
trainer.test(model, datamodule=data, verbose=False)
report = {"seen": model.seen, "tested": model.tested, "steps": data.steps_per_epoch}
(out / f"{trainer.global_rank}.json").write_text(json.dumps(report))
"""


def test_two_processes_share_out_what_one_would_see(data_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launcher, str(script), str(data_dir), str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]

    data = FusionDataModule(
        train={
            "l": LLVIP(data_dir / "LLVIP"),
            "m": MEFB(data_dir / "MEFB"),
            "r": RealMFF(data_dir / "RealMFF"),
        },
        test={"t": TNO(data_dir / "TNO", limit=3)},
        batch_size=2,
        crop_size=16,
        num_workers=0,
        seed=5,
    )
    model = Recorder()
    pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    ).fit(model, datamodule=data)
    together = [[zero[0], [*zero[1], *one[1]]] for zero, one in zip(ranks[0]["seen"], ranks[1]["seen"], strict=True)]
    assert together == [[task, list(names)] for task, names, _ in model.seen]
    assert ranks[0]["steps"] == data.steps_per_epoch
    assert [rank["tested"] for rank in ranks] == [["0", "2"], ["1"]]
