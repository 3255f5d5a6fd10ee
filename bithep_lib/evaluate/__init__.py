"""What the networks are worth: metrics, their errors, and comparisons that share jets and seeds."""
