"""The executor on a Ray cluster of two nodes, both on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from gptzoo_ray import RayExecutor

import gptzoo
import gptzoo.testing
from gptzoo.testing import properties_of


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    yield cluster
    cluster.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("name", [prop.name for prop in properties_of("executor")])
def test_it_passes_the_executor_conformance_tests_on_two_nodes(name: str, cluster: Any) -> None:
    assert len(cluster.list_all_nodes()) == 2
    (verdict,) = gptzoo.testing.check(RayExecutor, {"address": cluster.address}, only=[name])
    assert verdict.outcome == "passed", verdict


@pytest.mark.slow
def test_a_cluster_that_is_too_small_for_one_trial_is_refused(cluster: Any) -> None:
    executor = RayExecutor.Config(address=cluster.address, gpus=1.0).build()
    with pytest.raises(gptzoo.InputError, match="too small for one trial, which needs 1 CPUs and 1 GPUs"), executor:
        pytest.fail("the executor started")
