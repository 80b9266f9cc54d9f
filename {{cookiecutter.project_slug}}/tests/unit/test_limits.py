"""The token bucket: so many a second on average, so many at once."""

from hypothesis import given
from hypothesis import strategies as st

from distributed_websocket.limits import TokenBucket


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    bucket = TokenBucket(2.0, 3, now=100.0)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(100.5) for _ in range(2)] == [True, False]
    assert [bucket.take(200.0) for _ in range(4)] == [True, True, True, False]


@given(st.lists(st.floats(0, 2), max_size=60), st.integers(1, 5), st.floats(0.5, 10))
def test_it_never_allows_more_than_its_burst_and_its_rate(pauses: list[float], burst: int, rate: float) -> None:
    bucket, now, taken = TokenBucket(rate, burst, now=0.0), 0.0, 0
    for pause in pauses:
        now += pause
        taken += bucket.take(now)
    assert taken <= burst + rate * now + 1e-6
