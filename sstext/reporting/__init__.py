"""A run folder → report.html: read from its files alone, never from live objects."""

from sstext.reporting.report import REPORT, write_report

__all__ = ["REPORT", "write_report"]
