"""The machines that compute: samplers, process reward models, the verifier, trainers."""
