"""Published methods as compositions, one documented function per paper, and `auto`."""

from sstext.methods.registry import METHODS, build

__all__ = ["METHODS", "build"]
