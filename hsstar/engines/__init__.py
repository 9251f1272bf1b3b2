"""The machines that compute: samplers, process reward models, the verifier, trainers."""

import os

# Training libraries report their use to the hub; engines contact it only to fetch a checkpoint by its name.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
