"""Whether this process can still use its GPU."""

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
