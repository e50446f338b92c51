"""Files on disk: every kind of picture read and written, pairing by name, labels, selections, the cache."""
