"""Data files: read, written, fetched from the Hugging Face hub, and converted to problems."""
