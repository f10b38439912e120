"""The loss with weights of labels, beside scikit-learn's and torch's."""

from pathlib import Path

import pytest

from tests.support.lazy import Lazy
from train.loss import balanced, loss_of
from train.settings import RunSettings

pytestmark = pytest.mark.heavy

torch = Lazy("torch")
COUNTS = (60, 30, 10)
LABELS = [0, 1, 2, 0]


def settings(**options) -> RunSettings:
    return RunSettings(output=Path("o"), _env_file=None, **options)


@pytest.fixture
def weighted():
    return loss_of(settings(class_weights="balanced"), COUNTS)


@pytest.fixture
def logits():
    return torch.randn((4, 3), generator=torch.Generator().manual_seed(0))


def each(logits, labels):
    """The weighted loss of each text."""
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="none")
    return plain * torch.tensor(balanced(COUNTS))[labels]


def test_without_weights_the_loss_is_the_models_own():
    assert loss_of(settings(), COUNTS) is None


def test_weights_are_those_of_scikit_learn():
    import numpy as np
    from sklearn.utils.class_weight import compute_class_weight

    rows = np.repeat(range(3), COUNTS)
    theirs = compute_class_weight("balanced", classes=np.arange(3), y=rows)
    assert balanced(COUNTS) == pytest.approx(theirs)
    assert np.mean([balanced(COUNTS)[label] for label in rows]) == pytest.approx(1)


def test_a_label_without_rows_changes_no_weight():
    assert balanced((60, 0, 40)) == pytest.approx((100 / 120, 1, 100 / 80))


def test_labels_with_as_many_rows_have_the_loss_without_weights(logits):
    even = loss_of(settings(class_weights="balanced"), (5, 5, 5))
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
    assert torch.allclose(even({"logits": logits}, torch.tensor(LABELS)), plain)


def test_the_loss_is_the_mean_of_the_weighted_losses(weighted, logits):
    found = weighted({"logits": logits}, torch.tensor(LABELS))
    assert torch.allclose(found, each(logits, LABELS).mean())
    assert found.shape == ()


def test_parts_of_a_step_add_up_to_the_loss_of_the_whole(weighted, logits):
    items = torch.tensor(4)
    parts = [
        weighted({"logits": logits[at : at + 2]}, torch.tensor(LABELS[at : at + 2]),
                 num_items_in_batch=items)
        for at in (0, 2)
    ]  # fmt: skip
    assert torch.allclose(sum(parts), each(logits, LABELS).mean())


def test_several_gpus_that_share_a_batch_get_the_same_loss(weighted, logits):
    """The Trainer gives each the number of texts, and multiplies by the number of GPUs."""
    items = torch.tensor(4).unsqueeze(0).expand(2, -1)
    found = weighted({"logits": logits}, torch.tensor(LABELS), num_items_in_batch=items) * 2
    assert torch.allclose(found.mean(), each(logits, LABELS).mean())


def test_the_loss_is_computed_in_float32(weighted, logits):
    found = weighted({"logits": logits.bfloat16()}, torch.tensor(LABELS))
    assert found.dtype == torch.float32


NONE = -1


def test_texts_of_no_label_cost_as_much_as_they_are_far_from_even_scores(logits):
    loss = loss_of(settings(outliers="packaged"), COUNTS)
    labels = torch.tensor([0, NONE, 2, NONE])
    even = torch.full((3,), 1 / 3)
    plain = torch.nn.functional.cross_entropy(logits[[0, 2]], labels[[0, 2]], reduction="sum")
    far = sum(
        (even * (even.log() - logits[row].log_softmax(0))).sum()  # the divergence from them
        for row in (1, 3)
    )
    found = loss({"logits": logits}, labels, num_items_in_batch=torch.tensor(4))
    assert torch.allclose(found, (plain + 0.5 * far) / 4)


def test_even_scores_for_a_text_of_no_label_cost_nothing(logits):
    loss = loss_of(settings(outliers="packaged"), COUNTS)
    nothing = loss({"logits": torch.full((2, 3), 4.0)}, torch.tensor([NONE, NONE]))
    assert float(nothing) == pytest.approx(0, abs=1e-6)


def test_without_any_text_of_no_label_it_is_the_mean_cross_entropy(logits):
    loss = loss_of(settings(outliers="packaged"), COUNTS)
    plain = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
    assert torch.allclose(loss({"logits": logits}, torch.tensor(LABELS)), plain)


def taught(teacher, **options):
    """A loss whose next step has what a teacher said."""
    loss = loss_of(settings(teacher="t", **options), COUNTS)
    loss.teacher = teacher
    return loss


def test_a_share_of_the_loss_is_how_far_the_scores_are_from_the_teachers(logits):
    teacher = torch.randn((4, 3), generator=torch.Generator().manual_seed(1))
    labels = torch.tensor(LABELS)
    plain = torch.nn.functional.cross_entropy(logits, labels)
    theirs = (teacher / 2).softmax(1)
    apart = (theirs * (theirs.log() - (logits / 2).log_softmax(1))).sum(1).mean() * 4
    found = taught(teacher, teacher_share=0.3)({"logits": logits}, labels)
    assert torch.allclose(found, 0.7 * plain + 0.3 * apart)
    assert torch.allclose(taught(teacher, teacher_share=0)({"logits": logits}, labels), plain)


def test_a_model_that_says_what_the_teacher_says_has_nothing_to_learn_from_it(logits):
    loss = taught(logits.clone(), teacher_share=1)
    assert float(loss({"logits": logits}, torch.tensor(LABELS))) == pytest.approx(0, abs=1e-6)
    unlabelled = torch.tensor([NONE] * 4)
    assert float(loss({"logits": logits}, unlabelled)) == pytest.approx(0, abs=1e-6)


def test_texts_are_learned_by_what_is_known_of_them(logits):
    """A label and a teacher, a label alone, a teacher alone, and neither: an outlier."""
    teacher = torch.randn((4, 3), generator=torch.Generator().manual_seed(1))
    teacher[1] = teacher[3] = float("nan")
    labels = torch.tensor([0, 1, NONE, NONE])
    loss = taught(teacher, outliers="packaged")
    each = [
        loss_alone(loss, logits[row : row + 1], labels[row : row + 1], teacher[row : row + 1])
        for row in range(4)
    ]
    loss.teacher = teacher
    assert torch.allclose(loss({"logits": logits}, labels), torch.stack(each).mean())
    plain = torch.nn.functional.cross_entropy(logits[1:2], labels[1:2])
    assert torch.allclose(each[1], plain)
    assert float(each[3]) > 0


def loss_alone(loss, logits, labels, teacher):
    loss.teacher = teacher
    return loss({"logits": logits}, labels)


def test_a_gradient_reaches_every_text(logits):
    teacher = torch.zeros((4, 3))
    teacher[1] = teacher[3] = float("nan")
    logits.requires_grad_()
    taught(teacher)({"logits": logits}, torch.tensor([0, 1, NONE, NONE])).backward()
    assert bool(logits.grad.isfinite().all())
    assert bool((logits.grad.abs().sum(dim=1) > 0).all())
