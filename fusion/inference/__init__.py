"""Fusing what lies on disk with a model."""
