"""The device under the engines: whether it still works, and its memory."""

import gc
import sys


def gpu_is_lost() -> bool:
    """Whether a fault has made the GPU unusable for this process for good, as CUDA's sticky errors do."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def clear_memory() -> None:
    """Gives it back to the device, where PyTorch is in use: other engines count what is free there."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
