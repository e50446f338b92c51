"""Comparison of methods: tests of significance, ranks, tables, names of files, suites."""

import numpy as np
import pytest
import scipy.stats
from omegaconf import OmegaConf

from fusion.errors import DataError
from fusion.job.config import config_dir
from fusion.metrics import Suite, names, score
from fusion.scoring.journal import Journal
from fusion.scoring.leaderboard import compare
from fusion.scoring.naming import match_fused, pair_sources
from fusion.scoring.significance import average_ranks, holm, wilcoxon
from fusion.scoring.tables import latex, markdown


@pytest.mark.parametrize("count", [5, 12, 30, 80])
def test_wilcoxon_agrees_with_scipy(count):
    rng = np.random.default_rng(count)
    x = rng.normal(size=count)
    y = x + rng.normal(0.3, 0.5, size=count)
    method = "exact" if count <= 50 else "asymptotic"
    expected = scipy.stats.wilcoxon(x, y, method=method, correction=False).pvalue
    assert wilcoxon(x.tolist(), y.tolist()) == pytest.approx(expected, rel=1e-9)


def test_wilcoxon_with_ties_agrees_with_scipy():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, 40).astype(float)
    y = rng.integers(1, 10, 40).astype(float)
    assert (x == y).any()
    expected = scipy.stats.wilcoxon(x, y, method="asymptotic", correction=False).pvalue
    assert wilcoxon(x.tolist(), y.tolist()) == pytest.approx(expected, rel=1e-9)


def test_equal_samples_do_not_differ():
    assert wilcoxon([1.0, 2.0], [1.0, 2.0]) == 1.0


def test_holm_steps_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])


def test_average_ranks_share_ties():
    values = [3.0, 1.0, 3.0, 2.0]
    assert average_ranks(values) == scipy.stats.rankdata(values).tolist()


SUITE = Suite.from_config({"name": "two", "metrics": ["qabf", {"metric": "qcv", "label": "Q_cv", "decimals": 1}]})
HIGH, LOW = SUITE.keys


def board():
    rng = np.random.default_rng(0)
    values = {
        method: {f"image {i}": {HIGH: quality + rng.normal(0, 0.01), LOW: 100 - 50 * quality} for i in range(12)}
        for method, quality in {"good": 0.7, "bad_one": 0.3, "middle": 0.5}.items()
    }
    values["good"]["only here"] = {HIGH: 0.0, LOW: 1000.0}
    return compare(SUITE, values)


def test_comparison_uses_common_images_and_directions():
    result = board()
    assert len(result.images) == 12
    assert result.ranks["good"] == {HIGH: 1, LOW: 1}
    assert result.ranks["bad_one"] == {HIGH: 3, LOW: 3}
    assert result.mean_rank == {"good": 1, "bad_one": 3, "middle": 2}
    assert {(t.best, t.method) for t in result.tests} == {("good", "bad_one"), ("good", "middle")}
    assert all(t.p <= t.p_holm < 0.05 for t in result.tests)


def test_tables_mark_best_and_second():
    text = markdown(board(), ["made somehow"])
    header, _, good, bad, middle = text.splitlines()[:5]
    assert "Q_ABF ↑" in header and "Q_cv ↓" in header
    assert good.count("**") == 4 and "<u>" not in good
    assert middle.count("<u>") == 2 and "**" not in middle
    assert "**" not in bad and "<u>" not in bad
    assert "- made somehow" in text
    tex = latex(board(), [])
    assert r"$Q_{ABF}$ $\uparrow$" in tex and r"bad\_one" in tex and tex.count(r"\textbf") == 2


def test_nothing_in_common_is_said():
    with pytest.raises(DataError, match="no image was scored for every method"):
        compare(SUITE, {"x": {"1": {HIGH: 0, LOW: 0}}, "y": {"2": {HIGH: 0, LOW: 0}}})


def test_sources_pair_by_name_or_letter():
    assert pair_sources({"1": "a1", "2": "a2"}, {"1": "b1", "3": "b3"}, False) == ({"1": ("a1", "b1")}, ["2", "3"])
    scenes = {"x_1_A": "xa", "x_1_B": "xb", "y_a": "ya", "y_b": "yb", "lone_A": "la"}
    pairs, alone = pair_sources(scenes, dict(scenes), True)
    assert pairs == {"x_1": ("xa", "xb"), "y": ("ya", "yb")}
    assert alone == ["lone_A"]
    assert pair_sources({"s_A": "a"}, {"s_B": "b"}, False)[0] == {"s": ("a", "b")}


def test_fused_files_match_by_benchmark_names():
    names = ["lytro_1", "lytro_10", "walk", "walk_2"]
    files = {"lytro_1_IFCNN": 1, "lytro_10_IFCNN": 10, "WALK": 3, "walk_2_x": 4}
    found, missing = match_fused(names, files, "IFCNN")
    assert found == {"lytro_1": 1, "lytro_10": 10, "walk": 3, "walk_2": 4}
    assert missing == {}
    _, missing = match_fused(["p", "q"], {"p_1": 0, "p_2": 0}, "Ours")
    assert "several files" in missing["p"] and "no fused image named q or q_Ours" in missing["q"]


def test_journal_resumes_only_what_is_unchanged(tmp_path):
    path = tmp_path / "scores.csv.partial"
    first = Journal(path, {"v": 1}, resume=True)
    first.add("m", "1", "mark", {"en": 7.0})
    first.add("m", "2", "mark", {"en": 6.0})
    first.close(finished=False)
    path.write_text(path.read_text()[:-9])  # killed while writing the second line
    second = Journal(path, {"v": 1}, resume=True)
    assert second.known("m", "1", "mark") == {"en": 7.0}
    assert second.known("m", "1", "other file") is None
    assert second.known("m", "2", "mark") is None
    second.close(finished=False)
    other = Journal(path, {"v": 2}, resume=True)
    assert other.known("m", "1", "mark") is None
    other.close(finished=True)
    assert not path.exists()


SUITES = {
    "tcmoa_vif": 8, "tcmoa_mef": 8, "tcmoa_mff": 8, "tcmoa_ablation": 5, "moe_fusion": 8, "gifnet": 5, "toar": 5, "tno": 11,
    "vifb": 13, "mefb": 20, "all": len(names("exact")),
}  # fmt: skip


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_config_scores(name):
    suite = Suite.from_config(OmegaConf.to_container(OmegaConf.load(config_dir() / "metrics" / f"{name}.yaml")))
    assert suite.name == name
    assert len(suite.columns) == SUITES[name]
    rng = np.random.default_rng(0)
    triple = [rng.integers(0, 256, (40, 44, 3), dtype=np.uint8) for _ in range(3)]
    values = score(*triple, suite.keys)
    assert list(values) == suite.keys
    assert np.isfinite(list(values.values())).all()


def test_one_metric_in_two_conventions_gets_two_headings():
    suite = Suite.from_config({"metrics": ["ssim", "ssim@tang", "en"]})
    assert [column.label for column in suite.columns] == ["SSIM (exact)", "SSIM (tang)", "EN"]


def test_no_suite_config_is_forgotten():
    assert {path.stem for path in (config_dir() / "metrics").glob("*.yaml")} == set(SUITES)
