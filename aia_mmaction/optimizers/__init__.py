"""Optimizer constructors for MMEngine, registered in OPTIM_WRAPPER_CONSTRUCTORS."""

from .constructor import AIAOptimWrapperConstructor

__all__ = ['AIAOptimWrapperConstructor']
