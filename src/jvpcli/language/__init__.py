"""Expressions: parsed to a Program, refused where they may not run, evaluated by one loop."""
