"""What runs and evaluations look like, as plain values; command line, page and metrics only show them."""
