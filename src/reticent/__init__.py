"""Reticent: private and trustworthy deep learning for medical images."""

from importlib.metadata import version

__version__ = version("reticent")
