"""Run programs of models where they reach nothing: no network, no file of ours, no other process, no secret.

`Sandbox` starts one, by bubblewrap or by namespaces of our own (`ways`), and watches its processor time and
memory from outside (`usage`). `inside/` is what runs in it. `usable_way` tries what this machine offers and
raises SandboxError, with what is missing, where no way holds; nothing ever runs without.
"""

from hsstar.verifier.sandbox.sandbox import EndedError, Limits, Sandbox, usable_way
from hsstar.verifier.sandbox.ways import SandboxError, Way

__all__ = ["EndedError", "Limits", "Sandbox", "SandboxError", "Way", "usable_way"]
