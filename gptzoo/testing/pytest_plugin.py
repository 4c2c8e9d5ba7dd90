"""What pytest loads in every environment that has gptzoo: the marker of the properties that take long. No imports."""


def pytest_configure(config):  # type: ignore[no-untyped-def]
    config.addinivalue_line("markers", "slow: takes long; deselect with -m 'not slow'")
