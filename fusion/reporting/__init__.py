"""Reports: one HTML file of a run, a sweep or a comparison, and the same as a dashboard of Weights & Biases."""

from fusion.reporting.build import report
from fusion.reporting.dashboard import dashboard

__all__ = ["dashboard", "report"]
