"""What other programs are told of runs: Prometheus, experiment trackers, webhooks."""
