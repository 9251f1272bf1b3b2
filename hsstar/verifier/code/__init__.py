"""Programs in responses: found, run on the tests of their problem in a sandbox, and judged."""
