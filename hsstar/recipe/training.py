"""The sections of a recipe on the training of policies: `[training]` and `[initialisation]`."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hsstar.recipe.base import Name, Positive, Section

LossType = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sigmoid_norm",
]
"""TRL's preference losses by their names there."""


class OptimisationSection(Section):
    """The keys that both sections share."""

    learning_rate: Annotated[float, Field(gt=0)]
    batch_size: Positive = 256
    micro_batch_size: Positive = 8
    epochs: Annotated[float, Field(gt=0)] = 1.0
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    maximum_tokens: Positive
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    gradient_checkpointing: bool | None = None
    """Default: only on a GPU."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of LoRA adapters; 0 trains the weights themselves."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32.0
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    lora_target_modules: tuple[Name, ...] = ()
    quantization: Literal["none", "4bit"] = "none"
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    save_every_steps: Annotated[int, Field(ge=0)] | None = None
    """Default: a tenth of all steps; 0: no intermediate checkpoints."""

    @model_validator(mode="after")
    def _quantised_under_adapters_only(self) -> Self:
        if self.quantization == "none":
            return self
        if not self.lora_rank:
            raise ValueError("quantization = '4bit' needs lora_rank: quantised weights cannot be trained")
        if self.sharding != "none":
            raise ValueError("quantization = '4bit' needs sharding = 'none': every process holds all of it")
        return self


class TrainingSection(OptimisationSection):
    """The training of an iteration; `objective = "none"` ends it with its pairs."""

    objective: Literal["dpo", "sft", "none"] = "dpo"
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    beta: Annotated[float, Field(gt=0)] = 0.1
    loss_type: LossType = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    nll_weight: Annotated[float, Field(ge=0)] = 0.0
    maximum_tokens: Positive = 2048
    precompute_reference_logprobs: bool = False

    @model_validator(mode="after")
    def _smoothing_only_if_the_loss_has_it(self) -> Self:
        if self.loss_type == "exo_pair" and not self.label_smoothing:
            raise ValueError("loss_type = 'exo_pair' needs label_smoothing > 0 (its paper: 1e-3)")
        if self.label_smoothing and self.loss_type not in ("exo_pair", "robust", "aot", "aot_unpaired"):
            raise ValueError(
                f"loss_type = {self.loss_type!r} has no label_smoothing; "
                "exo_pair, robust, aot and aot_unpaired have it"
            )
        return self


class InitialisationSection(OptimisationSection):
    """Step-wise initialisation: the input of `hsstar train init` for M_0."""

    model: Name | None = None
    """The base model."""
    data: Name | None = None
    """A file of solutions in steps."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    maximum_tokens: Positive = 4096
