"""The method as plain functions and frozen dataclasses: standard library only, no I/O."""
