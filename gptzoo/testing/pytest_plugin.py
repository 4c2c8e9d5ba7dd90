"""The pytest plugin of gptzoo: it registers the marker `slow`.

pytest loads it in every environment that has gptzoo, so it imports nothing.
"""


def pytest_configure(config):  # type: ignore[no-untyped-def]
    config.addinivalue_line("markers", "slow: takes long; deselect with -m 'not slow'")
