"""Preparation of training data: from captioned images to group shards, one command per step (`pcclip-data`)."""
