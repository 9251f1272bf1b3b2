"""The tiny checkpoints of the engine tests."""

from tests.engines.conftest import policy, qwen_math, skywork

__all__ = ["policy", "qwen_math", "skywork"]
