"""Engines: samplers, reward models and trainers."""

import os

# Training libraries report their use to the hub; engines contact it only to download a checkpoint.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
