"""The steps, one module each, and what only one of them uses."""
