"""Errors the user can fix. Commands print them as one line and exit with status 2; Python users catch `FusionError`."""


class FusionError(Exception):
    """Base of every error that names a file or key, says what was expected and how to fix it."""


class ConfigError(FusionError):
    """A configuration key or value is wrong."""


class DataError(FusionError):
    """A data folder or image is missing, unpaired or unreadable."""


class WeightsError(FusionError):
    """Weights are missing, damaged, or belong to another model."""
