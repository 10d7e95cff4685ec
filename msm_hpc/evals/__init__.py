"""Evaluations: what a trained model prefers."""
