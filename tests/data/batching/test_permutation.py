import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gptzoo.data.batching.permutation import permute

keys = st.integers(0, 2**64 - 1)


@given(n=st.integers(1, 5000), key=keys)
def test_a_permutation_is_a_bijection(n: int, key: int) -> None:
    images = permute(np.arange(n), n, key)
    assert images.dtype == np.int64
    assert np.array_equal(np.sort(images), np.arange(n))


@given(n=st.integers(1, 2**40), key=keys, indices=st.lists(st.integers(0, 2**40 - 1), min_size=1, max_size=50))
def test_a_permutation_of_a_huge_range_is_computed_index_by_index(n: int, key: int, indices: list[int]) -> None:
    distinct = np.unique(np.array(indices) % n)
    images = permute(distinct, n, key)
    assert len(np.unique(images)) == len(distinct)
    assert images.min() >= 0
    assert images.max() < n


def test_the_image_of_an_index_is_uniform_over_the_keys() -> None:
    n, n_keys = 10, 4000
    for index in (0, 7):
        counts = np.bincount([permute(np.array([index]), n, key)[0] for key in range(n_keys)], minlength=n)
        chi_squared = ((counts - n_keys / n) ** 2 / (n_keys / n)).sum()
        assert chi_squared < 27.9  # 9 degrees of freedom, p = 0.001; the keys are fixed, so the test is deterministic


def test_permuted_distinctare_uncorrelated_with_their_order() -> None:
    n = 2000
    for key in range(20):
        images = permute(np.arange(n), n, key)
        assert abs(np.corrcoef(np.arange(n), images)[0, 1]) < 4 / np.sqrt(n)
        assert abs(np.corrcoef(images[:-1], images[1:])[0, 1]) < 4 / np.sqrt(n)
        other = permute(np.arange(n), n, key + 1)
        assert abs(np.corrcoef(images, other)[0, 1]) < 4 / np.sqrt(n)
