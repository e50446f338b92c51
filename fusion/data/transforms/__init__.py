"""Crops, flips and other changes that both images of a pair share."""
