"""Shards, batches of pairs, and labelled image sets."""
