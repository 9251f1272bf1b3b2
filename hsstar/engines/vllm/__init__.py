"""The shared parts of the engines on vLLM."""
