"""A study: strategies compared over several seeds at equal budget, every run through the same queue."""
