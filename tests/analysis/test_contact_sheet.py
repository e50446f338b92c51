"""The contact sheet of an evaluation."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from fusion.models.output import FusionOutput
from fusion.training.callbacks.contact_sheet import ContactSheet
from fusion.training.callbacks.sheet import MARGIN, Row, draw


class _Trainer:
    is_global_zero = True
    sanity_checking = False


class _Model:
    size_policy, size_multiple = "pad", 8


def batch(task: str, count: int = 1, size: tuple[int, int] = (12, 20)) -> dict:
    a, b = torch.zeros(count, 3, *size), torch.ones(count, 3, *size)
    return {"a": a, "b": b, "task": task, "name": [f"n{index}" for index in range(count)], "dataset": ["Set"] * count}


def test_rows_hold_pairs_in_columns_and_maps_without_their_padding(tmp_path: Path) -> None:
    sheet = ContactSheet(str(tmp_path / "new" / "sheet.png"), pairs_per_task=2, size=40, prompt_sites=2)
    prompt = torch.zeros(3, 2, 2, 3)  # tokens of 8 pixels: the second row and third column reach beyond 12 x 20
    prompt[:, 0, 1] = 1.0
    output = FusionOutput(torch.full((3, 3, 12, 20), 0.5), [prompt, prompt.flip(1)], [], ["encoder.1", "decoder.1"])
    sheet.on_test_batch_end(_Trainer(), _Model(), output, batch("vif", 3), 0)
    sheet.on_test_batch_end(_Trainer(), _Model(), output, batch("vif", 3), 1)
    assert [row.heading for row in sheet._sheet["vif"]] == ["vif   Set   n0", "vif   Set   n1"]
    row = sheet._sheet["vif"][0]
    captions = ["a: visible", "b: infrared", "fused", "prompt of a, encoder.1", "prompt of a, decoder.1"]
    assert row.captions == captions
    assert {tuple(picture.shape) for picture in row.pictures} == {(3, 24, 40)}
    # 8 of the 12 rows of pixels are zero, 4 are one; the border itself is smoothed
    assert row.pictures[3][:, :14].max() < 0.1 and row.pictures[3][:, 18:].min() > 0.9
    sheet.on_test_epoch_end(_Trainer(), _Model())
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert picture.width == MARGIN + 5 * (40 + MARGIN)
        tall = picture.height
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sheet.png"]
    sheet.on_validation_batch_end(_Trainer(), _Model(), output, batch("mef", 1), 0)
    sheet.on_validation_epoch_end(_Trainer(), _Model())
    with Image.open(tmp_path / "new" / "sheet.png") as picture:
        assert picture.height < tall  # the rows of before are forgotten


def test_prompts_of_tiles_are_left_out_and_other_ranks_draw_nothing(tmp_path: Path) -> None:
    sheet = ContactSheet(str(tmp_path / "sheet.png"), size=40)
    output = FusionOutput(torch.full((1, 3, 12, 20), 0.5), [torch.zeros(6, 2, 2, 3)], [], ["encoder.1"])
    sheet.on_test_batch_end(_Trainer(), _Model(), output, batch("medical"), 0)
    assert sheet._sheet["medical"][0].captions == ["a", "b", "fused"]
    other = ContactSheet(str(tmp_path / "other.png"))
    trainer = _Trainer()
    trainer.is_global_zero = False
    other.on_test_batch_end(trainer, _Model(), output, batch("vif"), 0)
    other.on_test_epoch_end(trainer, _Model())
    assert not (tmp_path / "other.png").exists()


def test_pictures_and_headings_are_where_they_belong() -> None:
    pictures = [torch.tensor([1.0, 0.0, 0.0]).view(3, 1, 1).expand(3, 30, 60), torch.zeros(3, 30, 60)]
    sheet = draw([Row("x" * 300, ["a", "b"], pictures), Row("", ["a"], pictures[:1])], 60)
    height = sheet.height // 2
    assert sheet.getpixel((MARGIN + 30, height - 2 * MARGIN)) == (255, 0, 0)
    assert sheet.getpixel((2 * MARGIN + 90, height - 2 * MARGIN)) == (0, 0, 0)
    heading = sheet.crop((0, MARGIN, sheet.width, MARGIN + 20)).convert("L")
    assert heading.getextrema()[0] < 60  # written
    assert heading.crop((sheet.width - 3, 0, sheet.width, 20)).getextrema()[0] > 200  # and cut off before the border


@pytest.mark.parametrize("wanted", [True, False])
def test_evaluation_writes_it_for_the_main_model(
    door, overrides: list[str], pairs: Path, tmp_path: Path, wanted: bool
) -> None:
    places = [f"+a={pairs / 'a'}", f"+b={pairs / 'b'}", "data=folders", "data.num_workers=0", "trainer=cpu"]
    done = door(
        "evaluate", *overrides, *places, "baselines=[average]", "evaluation.metrics=[psnr]", "save_images=false",
        "allow_untrained=true",
        f"contact_sheet={str(wanted).lower()}", f"run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.status == 0, done.err
    found = list((tmp_path / "run").rglob("*.png"))
    assert found == ([tmp_path / "run" / "contact_sheet.png"] if wanted else [])
    if wanted:
        with Image.open(found[0]) as picture:
            assert picture.width == MARGIN + 5 * (
                256 + MARGIN
            )  # three images, two sites: those of the model, not of average
