"""Quotas of the tests' AWS, for tests that need not import moto."""

QUOTAS = {"L-1216C47A": 64.0, "L-DB2E81BA": 8.0}
"""vCPUs of instances without and with a GPU."""
