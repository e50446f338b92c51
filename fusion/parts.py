"""The base of exchangeable parts that are not `nn.Module`s."""


class Part:
    """Marks a class that a checkpoint's record may name as a part of its model, beside `nn.Module`s.

    Parts only hold settings or small tensors; building one must not run, download or write anything.
    """

    @classmethod
    def recorded_config(cls, config: dict[str, object]) -> dict[str, object]:
        """The arguments to build this part with when they come from a record: subclasses drop what they would open."""
        return config
