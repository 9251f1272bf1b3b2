"""What the engines on vLLM share."""
