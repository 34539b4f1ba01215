"""All measurements that need a CUDA GPU, in one command with a time limit; what they find is one JSON file."""
