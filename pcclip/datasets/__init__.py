"""Readers of published evaluation sets, and of the tables and texts that evaluation tasks use."""
