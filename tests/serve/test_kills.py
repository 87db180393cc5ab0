"""A short form of benchmarks/kills.py: a few kills, on both databases."""

import kills


def test_jobs_survive_kills(url, folder, tmp_path):
    trial = kills.Trial(folder, url)
    try:
        attempts = kills.run_trial(
            trial, 2, 6, 4, lambda settings: kills.expect_fake(settings, tmp_path)
        )
    except BaseException:
        print((folder / "log").read_text()[-3000:])
        raise
    finally:
        if trial.process and trial.process.poll() is None:
            trial.kill()
    assert sum(attempts.values()) == 24


def test_a_planted_fault_is_found(tmp_path):
    """A seed that is drawn anew at each start would be found: the pictures differ."""
    one = kills.expect_fake({"prompt": "a cat", "seed": 1}, tmp_path)
    assert one == kills.expect_fake({"prompt": "a cat", "seed": 1}, tmp_path)
    assert one != kills.expect_fake({"prompt": "a cat", "seed": 2}, tmp_path)
