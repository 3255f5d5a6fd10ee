"""The runs behind the book's stored numbers, a module a chapter; they can be stopped and started again at any time."""
