"""The taught project of the workflow tests."""

from tests.workflow.conftest import taught

__all__ = ["taught"]
