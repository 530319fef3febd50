"""Attention behind a backbone, registered in MODELS."""

from .aia_neck import AIANeck

__all__ = ['AIANeck']
