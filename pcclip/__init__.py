"""pcclip: finetune CLIP so that the difference of two image embeddings points where a text describing it points."""

__version__ = "0.1.0"
