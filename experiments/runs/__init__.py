"""One run: training, evaluation, diagnosis, and what is kept of it."""
