"""HS-STaR as a data-centric job queue: problems in, a better model out."""

__version__ = "0.1.0"
