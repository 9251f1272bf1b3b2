"""The pages of `hsstar web`: they render what `insights/` says, live, and change nothing."""
