import pytest


@pytest.fixture
def scene(proxied_kafka, tmp_path):
    """Makes a scene of so many partitions: `scene(partitions=2)`."""
    from tests.support.scene import Scene

    direct, proxy = proxied_kafka
    return lambda partitions: Scene(direct, proxy, tmp_path, partitions=partitions)
