"""The device of the engines: its faults and its memory."""

import gc
import sys


def has_gpu() -> bool:
    """Return whether PyTorch, which an engine of this process has imported, sees a GPU."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_available())


def gpu_is_lost() -> bool:
    """Return whether a fault has made the GPU unusable for this process, as CUDA's sticky errors do."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def clear_memory() -> None:
    """Return the memory of dropped tensors to the device, so that other engines find it free."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
