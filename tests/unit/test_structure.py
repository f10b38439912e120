"""The house stays one that a stranger can live in: sizes, with a reason for each exception."""

from tests.tools.structure import modules

MOST_MODULE_LINES, MOST_CLASS_LINES, MOST_FIELDS = 300, 200, 10

LONG_MODULES = {
    "worker.settings": "one tree of settings, which is the manual",
    "worker.metrics": "one event method for each thing that is counted",
}
LARGE_CLASSES = {
    "worker.metrics.Metrics": "one event method for each thing that is counted",
    "worker.settings.KafkaSettings": "fields are settings",
    "worker.settings.Settings": "fields are groups of settings",
    "worker.redrive.options.RedriveSettings": "fields are settings",
    "train.settings.RunSettings": "fields are settings",
    "train.settings.EvaluateSettings": "fields are settings",
    "train.manifest.Manifest": "fields are keys of manifest.json",
    "worker.model.checkpoint.Checkpoint": "a value: what a checkpoint says",
    "worker.model.families.Names": "a value: how a family names its tensors and settings",
    "worker.records.Output": "a value: what is produced, and what is counted of it",
}

FOUND = [*modules("worker"), *modules("train")]


def test_a_module_is_read_in_one_go():
    long = {module.name: module.lines for module in FOUND if module.lines > MOST_MODULE_LINES}
    assert long.keys() == LONG_MODULES.keys(), long


def test_a_class_holds_no_more_than_one_can_keep_in_mind():
    large = {
        f"{each.module}.{each.name}": (each.lines, each.fields)
        for module in FOUND
        for each in module.classes
        if each.lines > MOST_CLASS_LINES or each.fields > MOST_FIELDS
    }
    assert large.keys() == LARGE_CLASSES.keys(), large
