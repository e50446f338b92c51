"""Pairs made from single pictures or from labelled ones."""
