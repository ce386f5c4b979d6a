"""What a worker sends; its process is tested with the job that uses it, in test_profile.py."""

from edgekit.agent.workers import thinned


def test_thinning_keeps_every_kth_sample():
    samples = [float(i) for i in range(10)]
    assert thinned(samples, None) == samples
    assert thinned(samples, 10) == samples
    assert thinned(samples, 4) == [0.0, 3.0, 6.0, 9.0]
