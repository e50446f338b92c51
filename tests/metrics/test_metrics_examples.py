"""The examples in the docstrings of `fusion.metrics`."""

import doctest
import importlib
import pkgutil

import pytest

import fusion.metrics

MODULES = [
    "fusion.metrics",
    *(f"fusion.metrics.{found.name}" for found in pkgutil.iter_modules(fusion.metrics.__path__)),
]
WITH_EXAMPLES = {"fusion.metrics", "fusion.metrics.compute", "fusion.metrics.modules", "fusion.metrics.registry"}


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert (result.attempted > 0) == (name in WITH_EXAMPLES)
