"""The pages: what they show, who may see them, and how they look."""
