"""Sampler on transformers: any causal language model, on a CPU or one GPU."""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import transformers

from hsstar.domain.errors import EngineMemoryError
from hsstar.engines.device import clear_memory
from hsstar.engines.loading import (
    context_length,
    encode_prompts,
    load_policy,
    load_tokenizer,
    naming_memory_errors,
    pick_device,
    pick_dtype,
)
from hsstar.engines.sampling.completions import completion, end_of_text_ids, refusal, stop_check
from hsstar.engines.sampling.contract import Completion, SampleRequest, SamplingParameters
from hsstar.engines.sampling.hf_decoding import DrawSettings, Row, draw_batch


class TransformersSampler:
    """Draws completions with its own decoding loop, every row from its own seed.

    The noise of a token is a function of (seed, position, token id), and rows are independent. So a
    completion is the same in every batch, up to the rounding of the forward pass. Draws of several threads
    alternate batch by batch; batches get smaller when memory runs out.
    """

    name = f"transformers {transformers.__version__}"

    def __init__(
        self, model: str | Path, *, device: str = "auto", dtype: str = "auto", batch_size: int = 256
    ) -> None:
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._batch_size = batch_size
        self._turn = threading.Lock()
        self._load(Path(model))

    def _load(self, path: Path) -> None:
        self._tokenizer = load_tokenizer(path)
        self._model = load_policy(path, self._device, self._dtype)
        self._context = context_length(self._model.config)
        self._end_ids = end_of_text_ids(self._model.generation_config, self._tokenizer)

    def draw(
        self, requests: Sequence[SampleRequest], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion | str]]:
        """Draw, as `contract.Sampler.draw` says."""
        prompts = encode_prompts(self._tokenizer, [request.prompt for request in requests])
        rows = {}
        for index, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
            if reason := refusal(prompt, self._context):
                yield index, reason
            else:
                limit = min(parameters.max_new_tokens, self._context - len(prompt))
                rows[index] = Row(prompt, request.seed, limit)
        by_length = sorted(rows, key=lambda index: (len(rows[index].prompt), index))
        for start in range(0, len(by_length), self._batch_size):
            with self._turn:
                yield from self._draw_batch(
                    {index: rows[index] for index in by_length[start : start + self._batch_size]}, parameters
                )

    def _draw_batch(
        self, rows: Mapping[int, Row], parameters: SamplingParameters
    ) -> Iterator[tuple[int, Completion]]:
        begun, indices, stop = time.monotonic(), list(rows), parameters.stop
        settings = DrawSettings(
            parameters.temperature, parameters.top_p, self._end_ids, stop_check(self._tokenizer, stop)
        )
        draws = draw_batch(self._model, list(rows.values()), settings)
        try:
            with naming_memory_errors():
                for place, draw in draws:
                    milliseconds = 1000 * (time.monotonic() - begun)
                    yield indices[place], completion(self._tokenizer, draw, stop, milliseconds)
        except EngineMemoryError:
            self._batch_size = max(1, len(rows) // 2)
            raise

    def reload(self, model: Path) -> None:
        """Load another policy in place of this one."""
        with self._turn:
            self.close()
            self._load(model)

    def close(self) -> None:
        """Free the model's memory."""
        self._model = None
        clear_memory()
