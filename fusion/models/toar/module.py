"""Stage two of T-OAR, and the model in use: the frozen base network, regulated by an instruction (Sec. 3.3)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from fusion.data.batch import FusionBatch
from fusion.errors import ConfigError, WeightsError
from fusion.hub import load_strict, locate, read_state
from fusion.models.checkpoint import RECORD
from fusion.models.gathered import Gathered
from fusion.models.inputs import Image
from fusion.models.output import FusionOutput
from fusion.models.toar import color
from fusion.models.toar.asked import Instruction, asked_of
from fusion.models.toar.base_fusion import check_network, load_base
from fusion.models.toar.fidelity import Fidelity
from fusion.models.toar.instructions import PLAIN, Instructions
from fusion.models.toar.network import BaseFusionNetwork, warn_untrained
from fusion.models.toar.recognition import Recognition
from fusion.models.toar.regulation import PromptInjection, Regulation
from fusion.models.toar.tailoring import Tailoring
from fusion.models.toar.task_norm import choose_tasks, separate_tasks, task_shares
from fusion.models.toar.text import TextEncoder, TextFeatures
from fusion.models.toar.tiles import fuse_tiles

SENTENCE = "sentence: "
"""In files of weights: how the keys of known sentences' vectors begin."""


class TOAR(Tailoring):
    """Task-oriented adaptive regulation (Yang et al., Information Fusion 2025).

    Only `regulation` trains, against the frozen networks of the instructed tasks (`Tailoring`); there is no fusion loss.

    Args:
        regulation: makes one site of T-OAR.
        text_encoder: sentences to vectors.
        instructions: sentences by task, see `Instructions`.
        wordings: further sentences by task, by which other instructions are recognised; they act as the task's own.
        network: arguments of `BaseFusionNetwork`.
        share_adapter, adapted_dim: see `Regulation`.
        task_bn: T-OAR's batch norms keep running statistics by task; False: one for all, as the released code.
        base_weights: name or path of a stage-one checkpoint; None leaves the base network random.
        task_networks: by task, makes a frozen network and its loss (`fusion.downstream`); only training needs them.
        bn_momentum: of the running statistics of T-OAR's batch norms.
        fidelity: what keeps tailored images natural in training, see `Fidelity`; None: the tasks' losses alone, as the paper.
        paraphrase: share of training images whose instruction is another sentence of the same task.
        instruction: what images are fused for where nothing is said; None: plain fusion.
        text_cache: folder for the features of costly text encoders; None: the cache of weights.
        weights: name or path of weights of both stages.
        base: see `FusionModel`.
    """

    native_color = "a"
    bytes_per_pixel = 1700
    image_controls = ("instruction",)
    explained_controls = ("instruction",)
    least_side = 2  # its edges are reflected, which one pixel cannot be
    weights_help = (
        "nobody released weights of T-OAR; take model=toar_tailored or toar_base, which come trained, or train "
        "experiment=toar_stage1"
    )

    def __init__(
        self,
        regulation: Callable[..., PromptInjection],
        text_encoder: TextEncoder,
        instructions: Mapping[str, Sequence[str] | None],
        network: Mapping[str, Any] | None = None,
        share_adapter: bool = True,
        adapted_dim: int = 512,
        task_bn: bool = False,
        bn_momentum: float = 0.1,
        fidelity: Fidelity | None = None,
        base_weights: str | None = None,
        task_networks: Mapping[str, Callable[[], Any]] | None = None,
        paraphrase: float = 0.0,
        instruction: str | None = None,
        wordings: Mapping[str, Sequence[str] | None] | None = None,
        text_cache: str | None = None,
        weights: str | None = None,
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.network = BaseFusionNetwork(**(network or {}))
        if base_weights is not None:
            load_base(self.network, base_weights)
        self.network.requires_grad_(False).eval()
        channels, blocks = (dict(network or {}).get(key, default) for key, default in (("channels", 8), ("blocks", 4)))
        self.regulation = Regulation(regulation, text_encoder.dim, channels, blocks - 1, adapted_dim, share_adapter)
        self.text = TextFeatures(text_encoder, text_cache)
        self.instructions = Instructions(instructions)
        self.task_bn = task_bn
        self.fidelity = fidelity
        for norm in self.regulation.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = bn_momentum
        if task_bn:
            separate_tasks(self.regulation, len(self.instructions.sentences))
        self.recognise = Recognition(self.instructions, self.text, getattr(text_encoder, "recognise", None), wordings)
        self.instruction, self.share = instruction, paraphrase
        self._has_weights = False
        self._makers = {task: make for task, make in (task_networks or {}).items() if make is not None}
        self._tasks: dict[str, Any] = {}  # frozen and of their own files: no submodules, no part of checkpoints
        self._val: dict[str, list[Tensor]] = {}
        if weights is not None:
            self.load_weights(weights)

    @staticmethod
    def check_config(config: Mapping[str, Any]) -> None:
        """Refuse values that cannot work together, before anything is built."""
        check_network(config.get("network") or {})
        known = Instructions(config["instructions"]).sentences
        for task in config.get("task_networks") or {}:
            if task not in known:
                raise ConfigError(f"model.task_networks.{task}: no instruction asks for it; known: {', '.join(known)}")
        if not 0 < config.get("bn_momentum", 0.1) <= 1:
            raise ConfigError(f"model.bn_momentum={config['bn_momentum']}: expected above 0 and at most 1")
        if not 0 <= config.get("paraphrase", 0.0) <= 1:
            raise ConfigError(f"model.paraphrase={config['paraphrase']}: expected a share between 0 and 1")

    def load_weights(self, weights: str) -> None:
        """Load both stages' weights, and the vectors of sentences that come along.

        Raises:
            WeightsError: unavailable, of another model, or of stage one alone.
        """
        state = read_state(locate(weights))
        sentences = {key.removeprefix(SENTENCE): state.pop(key) for key in list(state) if key.startswith(SENTENCE)}
        if state and not any(key.startswith("regulation.") for key in state):
            raise WeightsError(f"weights '{weights}' are of stage one alone: give them as model.base_weights")
        load_strict(self, state, weights, may_miss={k for k in self.state_dict() if k.endswith("num_batches_tracked")})
        self.text.learn(self.text.encoder.identity, sentences)
        self._has_weights = True

    @property
    def is_tailored(self) -> bool:
        """Whether instructions change anything: the prompts were trained, or loaded."""
        return self._has_weights or self.regulation.is_trained

    def forward(  # type: ignore[override]
        self, a: Tensor, b: Tensor, task: str = "vif", *, instruction: Instruction | None = None, strength: float = 1.0
    ) -> FusionOutput:
        """Fuse visible `a` with infrared `b`, `(B, 3, H, W)` in [0, 1], any size; `fused` is not clipped.

        Args:
            a, b: images.
            task: not used; the method knows visible and infrared.
            instruction: a sentence, or a task's name; one per image; or weights by sentence, whose features are mixed.
                "none" fuses plainly, and so does a sentence that means none of the known tasks, which is said; None takes
                the model's own.
            strength: factor on the prompts; 0 is plain fusion.
        """
        return self._fuse_piece(a, b, instruction, strength)

    def _fuse_piece(
        self, a: Tensor, b: Tensor, instruction: Instruction | None, strength: float, gathered: Gathered | None = None
    ) -> FusionOutput:
        luma, chroma = color.split(a)
        instruction = instruction if instruction is not None else self.instruction
        text, asked = asked_of(instruction, len(a), self.recognise)
        if self.task_bn and text is not None:
            choose_tasks(self.regulation, task_shares(instruction, len(a), self.instructions, self.recognise))
        prompts: dict[str, Tensor] = {}
        regulate = None
        if text is not None:
            adapted = self.regulation.adapt(text.to(luma.device))
            shares = strength * asked.to(luma)

            def regulate(source: str, index: int, features: Tensor) -> Tensor:
                prompt = shares * self.regulation(source, index, features, adapted, gathered)
                prompts[f"{source}.{index}"] = prompt
                return features + prompt

        fused = self.network(b[:, :1], luma, regulate, gathered)
        return FusionOutput(color.join(fused, chroma.to(fused.dtype)), extras={"luma": fused, "prompts": prompts})

    def _by_tiles(self) -> bool:
        return True

    def _fuse_tiles(  # type: ignore[override]
        self,
        a: Tensor,
        b: Tensor,
        task: str,
        pixels: int,
        instruction: Instruction | None = None,
        strength: float = 1.0,
    ) -> FusionOutput:
        def fuse(x: Tensor, y: Tensor, gathered: Gathered) -> Tensor:
            return self._fuse_piece(x, y, instruction, strength, gathered).fused

        return FusionOutput(fuse_tiles(fuse, a, b, self.network.margin, pixels))

    def fuse(
        self, a: Image | Sequence[Image], b: Image | None = None, task: str = "vif", **controls: Any
    ) -> FusionOutput:
        """See `FusionModel.fuse`; warns where there are no trained weights.

        Raises:
            ConfigError: an instruction for a model whose prompts are not trained.
        """
        warn_untrained(self.network)
        self._refuse_untailored(controls.get("instruction") or self.instruction)
        return super().fuse(a, b, task, **controls)

    def _evaluate(self, batch: FusionBatch) -> FusionOutput:
        self._refuse_untailored(self.eval_controls.get("instruction"))
        return super()._evaluate(batch)

    def _refuse_untailored(self, instruction: Instruction | None) -> None:
        if instruction in (None, PLAIN) or self.is_tailored:
            return
        check = getattr(self.text.encoder, "check", None)
        if check is not None:  # what is not installed is said first
            check()
        said = instruction if isinstance(instruction, str) else ", ".join(map(str, instruction or ()))
        raise ConfigError(
            f"instruction '{said}': {type(self).__name__} is not tailored yet, so no instruction would change anything; take "
            "model=toar_tailored, give weights of stage two (ckpt_path=RUN or model.weights=FILE, trained by "
            "experiment=toar_stage2), or leave the instruction out for plain fusion"
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Text features go along, so that known instructions need no language model; and what the tasks were."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["text_features"] = {"identity": self.text.encoder.identity, "vectors": self.text.known()}
        checkpoint[RECORD]["task_networks"] = {task: network.digest for task, network in self._tasks.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the text features along."""
        super().on_load_checkpoint(checkpoint)
        self._has_weights = True
        kept = checkpoint.get("text_features")
        if kept:
            self.text.learn(kept["identity"], kept["vectors"])
