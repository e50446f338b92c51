"""The two formats: how a traced graph becomes a file, and how the file is run to check it."""

import contextlib
import io
import json
import logging
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from fusion.errors import ConfigError
from fusion.files import atomic
from fusion.job.config import first_line

META = "fusion.json"
"""Name of the metadata inside a .pt2 file."""


class Format(ABC):
    """A graph in one format, in memory."""

    @abstractmethod
    def run(self, a: Tensor, b: Tensor) -> Tensor:
        """Fuse by the file's own runtime, on the CPU."""

    @abstractmethod
    def write(self, path: Path, about: dict[str, str]) -> None:
        """Write the file with its metadata, whole or not at all."""


class Pt2(Format):
    """`torch.export.save`: for `torch.export.load`, AOTInductor and ExecuTorch.

    Args:
        program: what `trace` made.
        opset: has no meaning here.
    """

    def __init__(self, program: ExportedProgram, opset: int | None = None) -> None:
        if opset is not None:
            raise ConfigError(f"opset={opset}: of ONNX, and format=pt2 has none; leave it out")
        self.program = program
        content = io.BytesIO()
        with _quiet():
            torch.export.save(program, content)
            content.seek(0)
            self.module = torch.export.load(content).module()

    def run(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Format`."""
        with torch.no_grad():
            return self.module(a, b)

    def write(self, path: Path, about: dict[str, str]) -> None:
        """See `Format`; the metadata is the extra file `fusion.json`."""
        with atomic(path) as temporary, _quiet(), temporary.open("wb") as file:
            torch.export.save(self.program, file, extra_files={META: json.dumps(about)})


class Onnx(Format):
    """ONNX, run by onnxruntime; one file, weights inside.

    Args:
        program: what `trace` made.
        opset: version of the operators; None: PyTorch's default.

    Raises:
        ConfigError: a package is missing, or an operator that ONNX does not have.
    """

    def __init__(self, program: ExportedProgram, opset: int | None = None) -> None:
        check_onnx()
        import onnxruntime

        try:
            with _quiet():
                made = torch.onnx.export(
                    program,
                    dynamo=True,
                    external_data=False,
                    verbose=False,
                    opset_version=opset,
                    input_names=["a", "b"],
                    output_names=["fused"],
                )
                assert made is not None
                self.proto = made.model_proto
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(
                self.proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the converter and the runtime raise errors of many kinds
            root = error
            while root.__cause__ is not None:
                root = root.__cause__  # type: ignore[assignment]
            raise ConfigError(
                f"format=onnx: this model cannot be written as ONNX ({type(root).__name__}: {first_line(root):.200}); "
                "try a fixed size, another opset, or format=pt2"
            ) from error

    def run(self, a: Tensor, b: Tensor) -> Tensor:
        """See `Format`."""
        return torch.from_numpy(self.session.run(["fused"], {"a": a.numpy(), "b": b.numpy()})[0])

    def write(self, path: Path, about: dict[str, str]) -> None:
        """See `Format`; the metadata are the model's `metadata_props`."""
        for key, value in about.items():
            entry = self.proto.metadata_props.add()
            entry.key, entry.value = key, value
        with atomic(path) as temporary:
            temporary.write_bytes(self.proto.SerializeToString())


FORMATS: dict[str, type[Pt2 | Onnx]] = {"onnx": Onnx, "pt2": Pt2}


def check_onnx() -> None:
    """Refuse format=onnx without its packages.

    Raises:
        ConfigError: names what is missing.
    """
    missing = []
    for name in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ConfigError(
            f"format=onnx needs {', '.join(missing)}: pip install 'image-fusion[onnx]', or take format=pt2, which needs nothing"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' running commentary."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
