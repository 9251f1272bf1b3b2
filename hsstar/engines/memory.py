"""Memory that dropped engines have left behind."""

import gc
import sys


def clear_memory() -> None:
    """Gives it back to the device, where PyTorch is in use: other engines count what is free there."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
