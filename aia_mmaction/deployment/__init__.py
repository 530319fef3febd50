"""Recognizers outside of MMEngine."""
