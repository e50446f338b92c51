"""Suites: the columns of a table, in a paper's order, convention and number of decimals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fusion.errors import ConfigError
from fusion.metrics.compute import MetricKey
from fusion.metrics.registry import MetricInfo, info


@dataclass(frozen=True)
class Column:
    """One metric of a table.

    Attributes:
        key: metric, convention and color policy.
        label: heading, as the paper prints it.
        decimals: digits after the point.
    """

    key: MetricKey
    label: str
    decimals: int

    @property
    def info(self) -> MetricInfo:
        """What the registry knows of the metric."""
        return info(self.key.name)

    @property
    def heading(self) -> str:
        """Label and the arrow of the better direction."""
        return f"{self.label} {self.info.arrow}"

    @property
    def policy(self) -> str:
        """How the value is made: `metric@convention, color policy`."""
        return f"{self.key.name}@{self.key.convention}, {self.key.variant.color}"


@dataclass(frozen=True)
class Suite:
    """The metrics of a table.

    Attributes:
        name: what users choose.
        columns: in the order of the table; their texts are unique.
        note: which table of which paper, and how sure the conventions are.
    """

    name: str
    columns: tuple[Column, ...]
    note: str = ""

    @property
    def keys(self) -> list[str]:
        """The columns as `fusion.metrics.compute` takes them."""
        return [str(column.key) for column in self.columns]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Suite":
        """Builds a suite from a config of `conf/metrics`.

        Args:
            config: `name`, `metrics` (each a text `name[@convention][:color]`, or a mapping with `metric` and any of
                `convention`, `color`, `label`, `decimals`), and any of `convention`, `color` (for metrics that state
                none) and `note`.

        Raises:
            ConfigError: for an unknown key, metric, convention or color policy, an empty list, or a repeated column.
        """
        _check_keys(config, ("name", "metrics", "convention", "color", "note"), "metrics")
        name, entries = str(config.get("name", "custom")), config.get("metrics")
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
            raise ConfigError(f"suite '{name}': metrics must be a list with at least one metric, got {entries!r}")
        columns = []
        for entry in entries:
            fields = entry if isinstance(entry, Mapping) else {"metric": entry}
            _check_keys(fields, ("metric", "convention", "color", "label", "decimals"), f"suite '{name}'")
            if "metric" not in fields:
                raise ConfigError(f"suite '{name}': an entry without 'metric': {dict(fields)}")
            convention = fields.get("convention") or config.get("convention") or "exact"
            key = MetricKey.parse(fields["metric"], convention, fields.get("color") or config.get("color"))
            known = info(key.name)
            columns.append(Column(key, fields.get("label", known.symbol), fields.get("decimals", known.decimals)))
        texts = [str(column.key) for column in columns]
        if twice := sorted({text for text in texts if texts.count(text) > 1}):
            raise ConfigError(f"suite '{name}': {', '.join(twice)} is listed twice; keep one")
        labels = [column.label for column in columns]
        columns = [  # the same metric in two conventions: the heading has to tell them apart
            replace(c, label=f"{c.label} ({c.key.convention})") if labels.count(c.label) > 1 else c for c in columns
        ]
        return cls(name, tuple(columns), str(config.get("note", "")))


def _check_keys(fields: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    unknown = [key for key in fields if key not in known]
    if unknown:
        raise ConfigError(f"{where}: unknown key '{unknown[0]}'; known: {', '.join(known)}")
