"""Layouts, loading, checking and splitting of the data sets."""
