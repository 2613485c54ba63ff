"""Ask a language model many questions: prompts, requests, retries, cost limits, and a journal of the answers."""
