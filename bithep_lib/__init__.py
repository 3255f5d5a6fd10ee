"""Low-bit neural networks for high-energy physics: the library behind the book BitHEP."""
