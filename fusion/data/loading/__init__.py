"""Samples to batches: samplers, loaders, LightningDataModules."""
