"""Derivatives as linear maps, and the plan that says how they are computed."""
