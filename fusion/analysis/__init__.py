"""Analyses of models and sweeps: cost, routing, prompts, bias; written as tables and figures."""
