"""The policies, a file each, by the names of the recipe."""
