"""Sampler on transformers: any causal language model, on a CPU or one GPU."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import transformers

from hsstar.engines.device import clear_memory
from hsstar.engines.loading import (
    context_length,
    encode_prompts,
    load_tokenizer,
    pick_device,
    pick_dtype,
)
from hsstar.engines.policies import load_policy
from hsstar.engines.sampling.completions import (
    closing_of_thinking,
    completion,
    end_of_text_ids,
    refusal,
    stop_check,
)
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf_batching import ContinuousBatch
from hsstar.engines.sampling.hf_decoding import DrawSettings, Row

REFILL_SHARE = 1 / 8
"""Free share of the batch at which waiting rows join it on a GPU, where a step costs the same for few rows.

On a CPU it costs by the row, and rows of different ages are padded: there the batch becomes empty first.
"""


class TransformersSampler:
    """Draws completions with its own decoding loop, every row from its own seed.

    The noise of a token is a function of (seed, position, token id), and rows are independent. So a
    completion is the same in every batch, up to the rounding of the forward pass. Draws of several threads
    share a batch of at most `batch_size` rows, which gets smaller when memory runs out.
    """

    name = f"transformers {transformers.__version__}"

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 256
    ) -> None:
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._batch = ContinuousBatch(batch_size, 1.0 if self._device.type == "cpu" else REFILL_SHARE)
        self._load(Path(model))

    def _load(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)
        model = load_policy(path, self._device, self._dtype)
        self._batch.model = model
        self._context = context_length(model.config)
        self._end_ids = end_of_text_ids(model.generation_config, self._tokenizer)

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Draw, as `contract.Sampler.draw` says; the longest prompts first, so that memory runs out early."""
        prompts = encode_prompts(self._tokenizer, [request.prompt for request in requests])
        indices: dict[Row, int] = {}
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if reason := refusal(prompt, self._context):
                yield index, reason
            else:
                limit = min(parameters.max_new_tokens, self._context - len(prompt))
                indices[Row(prompt, request.seed, limit)] = index
        rows = sorted(indices, key=lambda row: len(row.prompt), reverse=True)
        stop = parameters.stop
        settings = DrawSettings(
            parameters.temperature,
            parameters.top_p,
            stop,
            tuple(sorted({*self._end_ids, *parameters.stop_token_ids})),
            stop_check(self._tokenizer, stop),
            parameters.top_k,
            parameters.min_p,
            parameters.repetition_penalty,
            parameters.thinking,
            parameters.thinking_tokens,
            closing_of_thinking(self._tokenizer, parameters),
        )
        with closing(self._batch.draw(rows, settings)) as drawn:
            for row, milliseconds in drawn:
                yield indices[row], completion(self._tokenizer, row.draw, stop, milliseconds)

    def reload(self, model: Path) -> None:
        """Load another policy in place of this one."""
        self.close()
        self._load(model)

    def close(self) -> None:
        """Free the model's memory."""
        self._batch.model = None
        clear_memory()
