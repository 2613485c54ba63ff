"""Difference texts from the columns of a table, without a language model."""
