"""What `make` runs: the environment, the notebooks' normal form, and the book."""
