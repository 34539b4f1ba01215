"""Everything that runs: tasks, models, training, evaluation, ledger, search, executors, tracking, command line."""
