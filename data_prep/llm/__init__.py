"""Asking a language model many questions: prompts, requests, retries, budgets, and a journal that survives any death."""
