"""Counters and histograms as Prometheus text."""

from __future__ import annotations

from genro_storage.observe import Meter


def test_large_counters_are_told_exactly() -> None:
    """A rate is a difference of two of them: six digits would hide what a minute adds."""
    meter = Meter(store="sqlite")
    meter.count("genro_checkpoints_bytes_total", 1_234_567_890, kind="stored")
    before = meter.text()
    meter.count("genro_checkpoints_bytes_total", 1, kind="stored")
    meter.count("genro_seconds_total", 0.25)
    meter.set("genro_records_queue_depth", 10_000_001)
    assert 'genro_checkpoints_bytes_total{store="sqlite",kind="stored"} 1234567890\n' in before
    assert 'genro_checkpoints_bytes_total{store="sqlite",kind="stored"} 1234567891\n' in meter.text()
    assert 'genro_seconds_total{store="sqlite"} 0.25\n' in meter.text()
    assert 'genro_records_queue_depth{store="sqlite"} 10000001\n' in meter.text()


def test_values_of_labels_are_escaped() -> None:
    meter = Meter()
    meter.count("ended_total", status='a"b\\c\nd')
    assert meter.text() == '# TYPE ended_total counter\nended_total{status="a\\"b\\\\c\\nd"} 1\n'
