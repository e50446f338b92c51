"""Serve the page: its own folder for temporary files, nothing sent to anybody, one pair at a time."""

import contextlib
import io
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from fusion.api import list_models
from fusion.data.files.limits import set_max_pixels
from fusion.device import pick_device
from fusion.errors import ConfigError
from fusion.job.config import plain

DEFAULT = "tcmoa_pyramid"
"""Model that is chosen at the start."""
LOCAL = ("127.0.0.1", "localhost", "::1")
"""Hosts that only this machine reaches."""
SILENT = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1", "GRADIO_SHARE": "False"}
"""What keeps Gradio from reporting; to be set before it is imported."""


def check_gradio() -> None:
    """Refuse without the extra.

    Raises:
        ConfigError: says what to install.
    """
    os.environ.update(SILENT)
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise ConfigError("the page needs Gradio: pip install 'image-fusion[demo]'") from None


def serve(cfg: DictConfig) -> None:
    """Serve the page until it is interrupted, then delete all it was given.

    Raises:
        ConfigError: an unknown model, a port in use, no such device, or no public address where one is asked for.
    """
    with Server(plain(cfg)) as server:
        signal.signal(signal.SIGTERM, lambda *_: server.end())
        print(f"{server.address}   (Ctrl+C ends it)", flush=True)
        if server.public:
            print(f"{server.public}   (public, for a week at most)", flush=True)
        server.wait()


class Server:
    """A running page; leaving the context ends it and deletes its files.

    Args:
        options: keys of conf/demo.yaml.

    Attributes:
        address: where it is.
        public: address for others, where `share` is set.
        folder: of all its temporary files.

    Raises:
        ConfigError: see `serve`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        check_gradio()
        self.options = options
        set_max_pixels(options["max_pixels"])
        self.device = pick_device(options["device"])
        self.models = options["models"] or sorted(list_models(trained=True), key=lambda name: name != DEFAULT)
        port = options["port"]
        if port is not None and not _is_free(options["host"], port):
            raise ConfigError(
                f"port={port}: in use on {options['host']}; choose another, or port=null for the first free one"
            )
        self.folder = Path(tempfile.mkdtemp(prefix="fusion-demo-"))
        self._before = os.environ.get("GRADIO_TEMP_DIR")
        os.environ["GRADIO_TEMP_DIR"] = str(self.folder)  # read whenever a file comes in
        self._ended = threading.Event()
        try:
            self._launch()
        except BaseException:
            self.close()
            raise

    def _launch(self) -> None:
        from fusion.webpage.examples import examples
        from fusion.webpage.fusing import Models
        from fusion.webpage.layout import CSS, HEAD, Page, theme

        options = self.options
        pairs = examples(self.folder / "examples") if options["examples"] else []
        models = Models(self.device)
        models.get(self.models[0])  # a mistake is said here, not in the page
        results = self.folder / "results"
        results.mkdir()
        local = options["host"] in LOCAL and not options["share"]
        self.app = Page(models, self.models, results, pairs, local).build()
        self.app.queue(max_size=options["waiting"], default_concurrency_limit=1, api_open=False)
        with contextlib.redirect_stdout(io.StringIO()):  # Gradio says in many lines why it has no public address
            _, address, public = self.app.launch(
                server_name=options["host"],
                server_port=options["port"],
                share=options["share"],
                inbrowser=options["open"],
                prevent_thread_lock=True,
                quiet=True,
                show_error=True,
                footer_links=[],
                ssr_mode=False,
                enable_monitoring=False,
                max_file_size=f"{options['max_megabytes']}mb",
                allowed_paths=[str(self.folder)],
                theme=theme(),
                css=CSS,
                head=HEAD,
            )
        if options["share"] and not public:
            raise ConfigError(
                "share=true: Gradio's servers gave no public address (no connection to them?); leave share out to have the "
                f"page at {address}, or give host=0.0.0.0 for your network"
            )
        self.address, self.public = address, public
        threading.Thread(target=self._sweep, daemon=True).start()

    def _sweep(self) -> None:
        """Delete uploads and results that are old enough; examples stay."""
        while not self._ended.wait(15):
            delete_older(self.folder, 60 * self.options["keep_minutes"], keep=self.folder / "examples")

    def wait(self) -> None:
        """Wait for the interrupt."""
        while not self._ended.wait(3600):
            pass

    def end(self) -> None:
        """Let `wait` return."""
        self._ended.set()

    def close(self) -> None:
        """End the page and delete its files."""
        self._ended.set()
        if hasattr(self, "app"):
            self.app.close(verbose=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._before is None:
            os.environ.pop("GRADIO_TEMP_DIR", None)
        else:
            os.environ["GRADIO_TEMP_DIR"] = self._before

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def delete_older(folder: Path, seconds: float, keep: Path | None = None) -> list[Path]:
    """Delete files that are older, and folders that are empty then.

    Args:
        folder: where.
        seconds: age by the time of writing.
        keep: a folder inside that stays.

    Returns:
        What was deleted.
    """
    deleted = []
    limit = time.time() - seconds
    for path in sorted(folder.rglob("*"), reverse=True):
        if keep is not None and path.is_relative_to(keep):
            continue
        try:
            if path.is_file() and path.stat().st_mtime < limit:
                path.unlink()
                deleted.append(path)
            elif path.is_dir() and path.stat().st_mtime < limit and path.parent != folder:
                path.rmdir()  # refuses folders with something in them
        except OSError:  # another upload, or another process, was quicker
            continue
    return deleted


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
