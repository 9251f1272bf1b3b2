"""How the budget of an iteration is spread over its problems."""
