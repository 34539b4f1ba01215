"""What each command does: NAME is `main` in NAME.py, imported when it is called; `--help` needs none of them."""
