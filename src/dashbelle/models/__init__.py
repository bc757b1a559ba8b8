"""Weights and templates: what a model is, away from how it runs."""
