"""Renderers: reports to text, JSON and HTML; they know reports and no torch."""
