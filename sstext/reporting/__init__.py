"""A run folder → report.html. The report is made only from the files in the folder."""

from sstext.reporting.report import write_report

__all__ = ["write_report"]
