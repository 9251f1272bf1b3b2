"""Settings of trainings: `[training]` and `[initialisation]` of a recipe, and those of reward models."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from hsstar.recipe.base import Name, NumberFormat, Positive, Section

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
    """The keys that all of them share."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Peak learning rate."""
    batch_size: Positive = 256
    """Pairs (or solutions) per optimiser step."""
    micro_batch_size: Positive = 8
    """Pairs (or solutions) that pass through the model at once, at most."""
    epochs: Annotated[float, Field(gt=0)] = 1.0
    """Passes over the data."""
    scheduler: Literal["cosine", "linear", "constant", "constant_with_warmup"] = "cosine"
    """Learning rate schedule."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the steps that warm up, rounded down."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW."""
    maximum_tokens: Positive
    """Prompt and response together; longer texts are cut at the end and counted."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Format of the arithmetic; trained weights are float32."""
    save_dtype: NumberFormat = "float32"
    """Format of the saved checkpoint. The next training begins from it: small updates add up in float32."""
    save_rounding: Literal["nearest", "stochastic"] = "nearest"
    """How weights get into `save_dtype`. `stochastic` takes one of the two neighbours, seeded, so that small
    updates are kept on average."""
    gradient_checkpointing: bool | None = None
    """Saves memory for a third more time; default: on a GPU only."""
    lora_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of LoRA adapters; 0 trains the weights."""
    lora_alpha: Annotated[float, Field(gt=0)] = 32.0
    """Scale of the adapters."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the adapters."""
    lora_target_modules: tuple[Name, ...] = ()
    """Layers with adapters, such as `q_proj`; empty: every linear layer but the head."""
    lora_merge: bool = True
    """Merge the adapters into a whole checkpoint. `false` keeps them beside their base: sampling uses both,
    and the next training continues them."""
    quantization: Literal["none", "4bit"] = "none"
    """`4bit` (QLoRA): frozen weights in NF4; needs `lora_rank`, an NVIDIA GPU and `bitsandbytes`."""
    sharding: Literal["none", "fsdp2", "zero2", "zero3"] = "none"
    """How the processes of a training share the model; the ZeRO ones need `deepspeed`."""
    save_every_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps between intermediate checkpoints; default: a tenth of all steps; 0: none."""

    @model_validator(mode="after")
    def _rounding_only_where_something_is_rounded(self) -> Self:
        if self.save_rounding == "stochastic" and self.save_dtype == "float32":
            raise ValueError(
                "save_rounding = 'stochastic' needs save_dtype = 'bfloat16' or 'float16': "
                "float32 is not rounded"
            )
        return self

    @model_validator(mode="after")
    def _adapters_that_are_kept(self) -> Self:
        if not self.lora_merge and not self.lora_rank:
            raise ValueError("lora_merge = false needs lora_rank: without adapters nothing can be kept apart")
        return self

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

    objective: Literal["dpo", "kto", "sft", "none"] = "dpo"
    """`dpo` trains on pairs, `kto` on correct and incorrect samples without pairs, `sft` on correct ones;
    `none` ends an iteration with its pairs."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-7
    """Peak learning rate."""
    rows: Positive | None = None
    """Pairs (or solutions) seen in a training, whatever their number: repeated, or a seeded part of them. So
    runs can be compared at equal optimiser steps; default: each once an epoch."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Strength of the constraint of DPO and KTO."""
    loss_type: LossType = "sigmoid"
    """TRL's preference losses; `sigmoid` is DPO's own."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs taken to be swapped; for `robust`, `exo_pair`, `aot` and `aot_unpaired`."""
    nll_weight: Annotated[float, Field(ge=0)] = 0.0
    """Weight of an added negative log-likelihood of the chosen response (RPO)."""
    desirable_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of a correct sample in KTO's loss."""
    undesirable_weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of an incorrect one; KTO's authors keep the two sums of weights within a factor of 4/3."""
    maximum_tokens: Positive = 2048
    """Prompt and response together; longer texts are cut at the end and counted."""
    thinking: Literal["keep", "remove"] = "keep"
    """`remove` leaves blocks of thinking (`policy.thinking`) out of what the policy learns."""
    precompute_reference_logprobs: bool = False
    """Ask the reference once, before training: saves memory for a pass over the pairs."""

    @model_validator(mode="after")
    def _rows_instead_of_epochs(self) -> Self:
        if self.rows is not None and self.epochs != 1:
            raise ValueError("rows says how many are seen; it goes with epochs = 1 only")
        return self

    @model_validator(mode="after")
    def _keys_of_the_objective(self) -> Self:
        if self.objective != "kto":
            if (self.desirable_weight, self.undesirable_weight) != (1, 1):
                raise ValueError("desirable_weight and undesirable_weight need objective = 'kto'")
            return self
        for key, plain in (("loss_type", "sigmoid"), ("label_smoothing", 0), ("nll_weight", 0)):
            if getattr(self, key) != plain:
                raise ValueError(f"objective = 'kto' has a loss of its own; leave {key} out")
        if min(self.batch_size, self.micro_batch_size) < 2:
            raise ValueError(
                "objective = 'kto' needs batch_size and micro_batch_size of 2 or more: "
                "it compares the samples of a pass"
            )
        return self

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
    """The base model: a folder or a Hugging Face name."""
    data: Name | None = None
    """Solutions in steps: a file, or `hub:OWNER/NAME/FILE`."""
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    """Peak learning rate."""
    maximum_tokens: Positive = 4096
    """Prompt and solution together; longer texts are cut at the end and counted."""


class RewardTrainingSection(OptimisationSection):
    """The settings of `hsstar train prm`; no table of a recipe has them."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-5
    """Peak learning rate."""
    batch_size: Positive = 64
    """Responses per optimiser step."""
    maximum_tokens: Positive = 4096
    """Problem and response together; longer texts are cut at a step and counted."""

    @model_validator(mode="after")
    def _whole_weights_in_every_process(self) -> Self:
        for key, plain in (("lora_rank", 0), ("quantization", "none"), ("sharding", "none")):
            if getattr(self, key) != plain:
                raise ValueError(f"a reward model is trained whole, in every process: {key} stays {plain!r}")
        return self
