"""Files on disk to tensors: pairing, decoding, labels, selections, the cache."""
