"""What a record may name: marks of models and of those parts that are not `nn.Module`s (see `fusion.job.recorded`)."""


class RecordedModel:
    """Marks a class that a checkpoint's record may name as its model."""


class Part:
    """Marks a class that a checkpoint's record may name as a part of its model, beside `nn.Module`s.

    Parts only hold settings or small tensors; building one must not run, download or write anything.
    """
