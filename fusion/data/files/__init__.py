"""Files on disk: reading every kind of picture, writing results, pairing by name."""
