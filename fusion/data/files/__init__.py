"""Files on disk: decoding, pairing, labels, selection, caching."""
