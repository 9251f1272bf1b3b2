"""What a recipe will take, and whether models, data and memory fit it, before anything runs."""
