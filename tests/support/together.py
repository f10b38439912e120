"""Which tests of a run in several processes stay in one: those that share what is costly to make.

Not by pytest-xdist's own marker: version 3.8 writes the group where pytest 9.2 does not look.
"""

from xdist.scheduler import LoadScopeScheduling

HEAVY = "what imports torch or scikit-learn"
TOGETHER = {
    "tests/chaos/test_fuzz.py": "fuzz",
    "tests/deploy/test_observed.py": "observed",
    "tests/integration/test_metrics_scrape.py": "scrape",
    "tests/integration/test_security.py": "security",
    "tests/integration/test_checkpoint_contract.py": HEAVY,
    "tests/integration/train/test_data.py": HEAVY,
    "tests/integration/train/test_teachers.py": HEAVY,
    "tests/integration/train/test_training.py": HEAVY,
    "tests/unit/model/test_agreement.py": HEAVY,
    "tests/unit/model/test_classifier.py": HEAVY,
    "tests/unit/model/test_device.py": HEAVY,
    "tests/unit/model/test_packed.py": HEAVY,
    "tests/unit/model/test_precision.py": HEAVY,
    "tests/unit/model/test_budget.py": HEAVY,
    "tests/unit/model/test_failures.py": HEAVY,
    "tests/unit/model/test_encoder.py": HEAVY,
    "tests/unit/model/test_mates.py": HEAVY,
    "tests/unit/model/test_tokenizer.py": HEAVY,
    "tests/unit/train/test_classify.py": HEAVY,
    "tests/unit/train/test_command.py": HEAVY,
    "tests/unit/train/test_dropout.py": HEAVY,
    "tests/unit/train/test_encoder.py": HEAVY,
    "tests/unit/train/test_freeze.py": HEAVY,
    "tests/unit/train/test_loss.py": HEAVY,
    "tests/unit/train/test_metrics.py": HEAVY,
    "tests/unit/train/test_plots.py": HEAVY,
    "tests/unit/train/test_progress.py": HEAVY,
    "tests/unit/train/test_machine.py": HEAVY,
    "tests/unit/train/test_threshold.py": HEAVY,
}
"""Files whose tests run in one process, one after the other, by the name of their group."""


class Together(LoadScopeScheduling):
    """Hands out test after test in their order; those of a group are handed out as one."""

    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.partition("::")[0], nodeid)
