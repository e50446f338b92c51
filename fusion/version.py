"""The only place of the version: the package, its metadata and the records of runs read it here."""

__version__ = "0.2.0.dev0"
