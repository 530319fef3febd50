"""Recognizers with `plugins=`, registered in MODELS."""

from .aia_recognizer2d import AIARecognizer2D

__all__ = ['AIARecognizer2D']
