"""Benchmarks that print one shape of report, and say which rows are at their line."""
