"""How the page looks: components of Gradio and what they call."""

import html
import tempfile
import threading
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from fusion.errors import FusionError
from fusion.models.color import COLORS
from fusion.webpage.examples import Example
from fusion.webpage.fusing import Models, Result, fuse_files, preview, score_rows
from fusion.webpage.steering import SLIDERS, TASK_NAMES, TASKS, Steering, controls_of, steering_of

VIEWS = ("a | fused", "b | fused", "a | b")
MIXED = TASKS
"""Tasks whose routers a page can mix."""
ROLES = {"a": "visible, over-exposed or far focus", "b": "infrared, under-exposed or near focus"}
EMPTY = "<p class='hint'>Choose two pictures of one scene, or an example, and press <b>Fuse</b>.</p>"
CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
#title h1 { font-size: 1.5rem; margin: .4rem 0 0; } #title p { margin: .1rem 0 .6rem; color: var(--body-text-color-subdued); }
.message { border-left: 4px solid #b3261e; background: #fdecea; color: #5f1410; padding: .6rem .8rem; border-radius: 4px; }
.notes { border-left: 4px solid #8a6d00; background: #fff8e1; color: #4d3d00; padding: .5rem .8rem; border-radius: 4px; }
.notes p, .message p { margin: .15rem 0; } .hint { color: var(--body-text-color-subdued); margin: .3rem 0; }
table.scores { border-collapse: collapse; width: 100%; } table.scores, table.scores tr { border: none !important; }
table.scores td, table.scores th { padding: .3rem .5rem !important; text-align: left; border: none !important; }
table.scores td:nth-child(2), table.scores th:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums; }
table.scores tr + tr { border-top: 1px solid var(--border-color-primary) !important; }
table.scores td:nth-child(3) { color: var(--body-text-color-subdued); }
#prompts, #prompts .grid-wrap { height: auto !important; min-height: 0 !important; }
#prompts .grid-container { padding-top: 1.6rem; }
"""
HEAD = '<meta name="robots" content="noindex"><meta name="referrer" content="no-referrer">'


def theme() -> Any:
    """Plain, with the fonts of the machine: nothing is fetched."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
    return gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.slate,
        radius_size=gr.themes.sizes.radius_sm,
        font=sans,
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )


class Page:
    """The page.

    Args:
        models: loaded on demand.
        names: of the models to choose from; the first is chosen at the start.
        folder: for results.
        pairs: examples.
        local: only this machine reaches the page.
    """

    def __init__(
        self, models: Models, names: Sequence[str], folder: Path, pairs: Sequence[Example] = (), local: bool = True
    ) -> None:
        self.models, self.names, self.folder, self.pairs, self.local = models, list(names), folder, list(pairs), local
        self._one_at_a_time = threading.Lock()

    def build(self) -> gr.Blocks:
        """Put the components together."""
        first = steering_of(self.models.get(self.names[0]))
        with gr.Blocks(title="Image fusion", analytics_enabled=False, delete_cache=(3600, 3600)) as blocks:
            stays = " Nothing leaves this machine." if self.local else ""
            gr.Markdown(f"# Image fusion\nTwo pictures of one scene become one.{stays}", elem_id="title")
            views = gr.State([])
            with gr.Row():
                with gr.Column(scale=4, min_width=320) as left:
                    files, previews, facts = self._inputs()
                with gr.Column(scale=3, min_width=300):
                    choices, button = self._choices(first)
                    model, task, color, match, sliders, mix, sentence = choices
                    message = gr.HTML(EMPTY, elem_id="message", padding=False)
                with left:
                    self._examples([*files, task])
            with gr.Column(visible=False, elem_id="result") as result:
                with gr.Row():
                    with gr.Column(scale=5, min_width=320):
                        view = gr.Radio(VIEWS, value=VIEWS[0], label="Compare", elem_id="view")
                        slider = gr.ImageSlider(
                            label="Move the line",
                            format="png",
                            elem_id="slider",
                            max_height=640,
                            buttons=["fullscreen"],
                        )
                    with gr.Column(scale=3, min_width=280):
                        scores = gr.HTML(elem_id="scores", padding=False)
                        download = gr.DownloadButton("Download in full depth", elem_id="download", variant="secondary")
                maps = gr.Gallery(
                    label="Prompts: share of a at each site, dark to bright",
                    columns=6,
                    elem_id="prompts",
                    visible=False,
                    format="png",
                    buttons=[],
                    object_fit="contain",
                )
            for side, file, picture, fact in zip("ab", files, previews, facts, strict=True):
                file.change(partial(self.show, side), file, [picture, fact, message, result], show_progress="hidden")
            model.change(self.steer, model, [task, message, *sliders.values(), *mix.values(), sentence])
            button.click(
                self.fuse,
                [*files, model, task, color, match, *sliders.values(), *mix.values(), sentence, view],
                [message, result, slider, scores, maps, download, views],
                concurrency_id="fuse",
            )
            view.change(self.compare, [view, views], slider, show_progress="hidden")
        return blocks

    # Parts -----------------------------------------------------------------------------------------------------------

    def _inputs(self) -> tuple[list[gr.File], list[gr.Image], list[gr.HTML]]:
        files, previews, facts = [], [], []
        with gr.Row():
            for side in "ab":
                with gr.Column(min_width=200):
                    files.append(gr.File(label=f"Picture {side}", height=150, elem_id=f"file_{side}"))
                    options: dict[str, Any] = {"format": "png", "buttons": [], "show_label": False}
                    previews.append(gr.Image(interactive=False, height=200, elem_id=f"preview_{side}", **options))
                    facts.append(gr.HTML(_hint(ROLES[side]), elem_id=f"facts_{side}", padding=False))
        return files, previews, facts

    def _examples(self, inputs: list[Any]) -> None:
        if self.pairs:
            gr.Examples(
                [[str(a), str(b), task] for _, a, b, task in self.pairs],
                inputs,
                example_labels=[title for title, *_ in self.pairs],
                label="Examples (made from photographs)",
                cache_examples=False,
                examples_per_page=12,
            )

    def _choices(self, first: Steering) -> tuple[tuple[Any, ...], gr.Button]:
        model = gr.Dropdown(self.names, value=self.names[0], label="Model", elem_id="model")
        task = gr.Dropdown(
            _named(first.tasks), value=first.tasks[0], label="Task", interactive=first.looks_at_task, elem_id="task"
        )
        sliders = {
            name: gr.Slider(
                s.low, s.high, s.default, step=0.05, label=s.label, info=s.help, visible=name in first.sliders,
                elem_id=f"control_{name}",
            )
            for name, s in SLIDERS.items()
        }  # fmt: skip
        sentence = gr.Textbox(
            label="Instruction",
            info="what the picture is for, in words",
            visible=first.instruction,
            elem_id="instruction",
        )
        with gr.Accordion("More", open=False):
            mix = {
                name: gr.Slider(
                    0, 1, 0, step=0.05, label=f"router of {name}", visible=name in first.mix, elem_id=f"mix_{name}",
                    info="shares of the tasks' routers, in place of the task; all 0: the task's own",
                )
                for name in MIXED
            }  # fmt: skip
            color = gr.Dropdown(list(COLORS), value="auto", label="Colour", info="whose colour the result has")
            match = gr.Radio(
                [("refuse", "refuse"), ("fit b into a", "a"), ("fit a into b", "b")],
                value="refuse", label="Pictures of different size", elem_id="match",
            )  # fmt: skip
        button = gr.Button("Fuse", variant="primary", elem_id="fuse")
        return (model, task, color, match, sliders, mix, sentence), button

    # What they call --------------------------------------------------------------------------------------------------

    def show(self, side: str, file: str | None) -> tuple[Any, str, Any, Any]:
        """A chosen file: its preview, what it is, a message where it cannot be read; what was made of others is hidden."""
        hidden = gr.update(visible=False)
        if file is None:
            return None, _hint(ROLES[side]), EMPTY, hidden
        try:
            picture, line = preview(file)
        except Exception as error:  # whatever is wrong with a file, the page goes on
            return None, _hint(ROLES[side]), message_of(error), hidden
        return picture, _hint(line), EMPTY, hidden

    def steer(self, name: str) -> list[Any]:
        """Another model: its tasks and controls, the others hidden."""
        try:
            steering = steering_of(self.models.get(name))
        except Exception as error:
            return [gr.skip(), message_of(error), *[gr.skip()] * (len(SLIDERS) + len(MIXED) + 1)]
        task = gr.update(
            choices=_named(steering.tasks), value=steering.tasks[0], interactive=steering.looks_at_task,
            info=None if steering.looks_at_task else "this method has one way for all tasks",
        )  # fmt: skip
        sliders = [gr.update(visible=key in steering.sliders, value=s.default) for key, s in SLIDERS.items()]
        mix = [gr.update(visible=key in steering.mix, value=0) for key in MIXED]
        return [task, gr.skip(), *sliders, *mix, gr.update(visible=steering.instruction, value="")]

    def fuse(self, a: str | None, b: str | None, name: str, task: str, color: str, match: str, *rest: Any) -> list[Any]:
        """The button: message, result, slider, scores, prompts, file, and what the slider can show."""
        values, mix = rest[: len(SLIDERS)], rest[len(SLIDERS) : len(SLIDERS) + len(MIXED)]
        sentence, view = rest[-2], rest[-1]
        nothing = [gr.update(visible=False), *[gr.skip()] * 5]
        if a is None or b is None:
            missing = " and ".join(side for side, file in (("a", a), ("b", b)) if file is None)
            return [_message(f"Picture {missing} is missing: choose a file, or an example."), *nothing]
        try:
            model = self.models.get(name)
            given = controls_of(
                steering_of(model),
                dict(zip(SLIDERS, values, strict=True)),
                dict(zip(MIXED, mix, strict=True)),
                sentence or "",
            )
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            with self._one_at_a_time:  # models keep state during a call
                made = fuse_files(model, a, b, folder, task, given, color, match)
            views = [
                self._write(folder, key, picture)
                for key, picture in (("a", made.a), ("b", made.b), ("fused", made.fused))
            ]
        except Exception as error:
            return [message_of(error), *nothing]
        return [
            notes_of(made),
            gr.update(visible=True),
            self.compare(view, views),
            scores_of(made),
            gr.update(value=made.maps, visible=bool(made.maps)),
            gr.update(value=str(made.file), label=f"Download {made.file.name}"),
            views,
        ]

    def compare(self, view: str, views: Sequence[str]) -> Any:
        """The two pictures of the slider."""
        if not views:
            return gr.skip()
        places = {"a": 0, "b": 1, "fused": 2}
        left, right = view.split(" | ")
        return gr.update(
            value=(views[places[left]], views[places[right]]), label=f"{left} on the left, {right} on the right"
        )

    @staticmethod
    def _write(folder: Path, name: str, picture: np.ndarray) -> str:
        path = folder / f"view_{name}.png"
        Image.fromarray(picture).save(path, compress_level=1)
        return str(path)


def message_of(error: Exception) -> str:
    """An error as people read it: errors of ours in their words, others by their kind, without a traceback."""
    if isinstance(error, FusionError):
        return _message(str(error))
    traceback.print_exception(error)  # for the terminal
    return _message(f"This did not work: {type(error).__name__}. The terminal that runs the page may say more.")


def _message(text: str) -> str:
    return f"<div class='message' role='alert'><p>{html.escape(text)}</p></div>"


def notes_of(made: Result) -> str:
    """What a user should know of a result."""
    line = _hint(" ".join([f"Fused in {made.seconds:.2f} s.", *(f"Colour: {text}." for text in made.color)]))
    if not made.notes:
        return line
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in dict.fromkeys(made.notes))
    return f"{line}<div class='notes'>{notes}</div>"


def scores_of(made: Result) -> str:
    """Scores as a table."""
    if not made.scores:
        return "<p class='hint'>No scores.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(symbol)}</td><td>{value}</td><td>{better}</td></tr>"
        for symbol, value, better in score_rows(made.scores)
    )
    return f"<table class='scores'><tr><th>Score</th><th>Value</th><th>Better</th></tr>{rows}</table>"


def _hint(text: str) -> str:
    return f"<p class='hint'>{html.escape(text)}</p>"


def _named(tasks: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"{task}: {TASK_NAMES[task]}" if task in TASK_NAMES else task, task) for task in tasks]
