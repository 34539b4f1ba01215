"""All that a machine with a CUDA GPU is asked for, in one command with a clock; what is found is one JSON file."""
