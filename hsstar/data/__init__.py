"""Data files: read, written, fetched from the Hugging Face hub, and turned into problems."""
