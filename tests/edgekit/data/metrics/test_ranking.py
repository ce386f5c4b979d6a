import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, recall_score, roc_auc_score, top_k_accuracy_score

from edgekit.data.metrics.ranking import auc, class_recalls, per_class, top1, top5, top_k
from edgekit.errors import DataError

OUTPUTS = np.array(
    [
        [6, 5, 4, 3, 2, 1],
        [1, 2, 3, 4, 5, 6],
        [0, 0, 0, 0, 0, 0],
        [9, 1, 8, 2, 7, 3],
    ],
    dtype=np.float32,
)


def test_top1_counts_rows_whose_largest_entry_is_right():
    assert top1(OUTPUTS, np.array([0, 5, 1, 2])) == 0.5


def test_top5_counts_rows_with_the_label_among_five():
    # the sixth of row 0 is 5, of row 1 it is 0, of six equal ones the last, of row 3 it is 1
    assert top5(OUTPUTS, np.array([4, 1, 4, 5])) == 1.0
    assert top5(OUTPUTS, np.array([5, 0, 5, 1])) == 0.0


def test_top_k_is_as_scikit_learn_counts_it():
    generator = np.random.default_rng(0)
    outputs, labels = generator.normal(size=(200, 7)).astype(np.float32), generator.integers(0, 7, 200)
    for k in (1, 2, 3, 6):
        assert top_k(outputs, labels, k=k) == top_k_accuracy_score(labels, outputs, k=k, labels=range(7))
    for k in (0, 1.5, True):
        with pytest.raises(DataError) as caught:
            top_k(outputs, labels, k=k)
        assert caught.value.what == f"k is {k!r}"


def test_a_row_that_holds_nan_is_wrong():
    outputs = OUTPUTS.copy()
    outputs[0, 3] = np.nan
    assert top1(outputs, np.array([3, 5, 0, 0])) == 0.75  # argmax alone would take NaN for the largest
    assert top5(outputs, np.array([3, 5, 0, 0])) == 0.75


def test_every_position_of_a_sequence_counts():
    outputs = np.stack([OUTPUTS[:2], OUTPUTS[2:]])  # (2, 2, 6)
    assert top1(outputs, np.array([[0, 5], [0, 1]])) == 0.75


def test_positions_of_a_sequence_labelled_minus_one_do_not_count():
    outputs = np.stack([OUTPUTS[:2], OUTPUTS[2:]])  # (2, 2, 6)
    labels = np.array([[0, -1], [-1, 1]])
    assert top1(outputs, labels) == 0.5
    assert top_k(outputs, np.array([[5, -1], [-1, 8 // 4]]), k=5) == 0.5
    assert class_recalls(outputs, labels) == {"class 0": 1.0, "class 1": 0.0}


@pytest.mark.parametrize(
    ("outputs", "labels", "what"),
    [
        (OUTPUTS[None], [[-1, -1, -1, -1]], "every label is -1, which does not count"),
        (OUTPUTS[None], [[0, -2, 0, 1]], "label -2 of sample 0, position 1 is outside 0 to 5"),
        (OUTPUTS, [0, 5, -1, 2], "label -1 of sample 2 is outside 0 to 5"),  # every sample has a class
    ],
)
def test_other_labels_outside_the_classes_are_refused(outputs, labels, what):
    with pytest.raises(DataError) as caught:
        top1(outputs, np.array(labels))
    assert caught.value.what == what


def test_per_class_is_the_mean_recall_of_the_classes_that_occur():
    generator = np.random.default_rng(1)
    labels = generator.choice(4, 300, p=[0.7, 0.2, 0.05, 0.05])
    outputs = generator.normal(size=(300, 5)).astype(np.float32)
    outputs[np.arange(300), labels] += np.where(labels == 0, 2.0, 0.3)  # good at the frequent class
    outputs[:, 4] = -9  # a class that has no sample, and none is taken for it
    answers = outputs.argmax(1)
    assert per_class(outputs, labels) == pytest.approx(balanced_accuracy_score(labels, answers), abs=1e-12)
    recalls = recall_score(labels, answers, labels=[0, 1, 2, 3], average=None)
    assert class_recalls(outputs, labels) == pytest.approx({f"class {i}": recalls[i] for i in range(4)})
    assert per_class(outputs, labels) < top1(outputs, labels) - 0.1


def test_auc_is_as_scikit_learn_counts_it_ties_included():
    generator = np.random.default_rng(2)
    labels = generator.integers(0, 2, 400)
    scores = np.round(generator.normal(size=400) + labels, 1).astype(np.float32)  # many equal ones
    wanted = roc_auc_score(labels, scores)
    assert auc(scores, labels) == pytest.approx(wanted, abs=1e-12)
    assert auc(scores[:, None], labels[:, None].astype(np.float32)) == pytest.approx(wanted, abs=1e-12)
    other = generator.normal(size=400).astype(np.float32)
    logits = np.stack([other, other + scores], axis=1)
    assert auc(logits, labels) == pytest.approx(roc_auc_score(labels, logits[:, 1].astype(float) - logits[:, 0]))
    assert auc(np.zeros(4, np.float32), np.array([0, 1, 0, 1])) == 0.5
    assert np.isnan(auc(np.array([0, np.nan], np.float32), np.array([0, 1])))


@pytest.mark.parametrize(
    ("outputs", "labels", "what"),
    [
        (np.zeros((3, 4), np.float32), np.array([0, 1, 0]), "labels (3,) for outputs (3, 4)"),
        (np.zeros(3, np.float32), np.array([0, 1]), "labels (2,) for outputs (3,)"),
        (np.zeros(3, np.float32), np.array([0, 2, 1]), "label 2 of sample 1 is neither 0 nor 1"),
        (np.zeros(3, np.float32), np.array([0, 0, 0]), "0 samples have label 1 and 3 label 0"),
    ],
)
def test_auc_refuses_what_has_no_curve(outputs, labels, what):
    with pytest.raises(DataError) as caught:
        auc(outputs, labels)
    assert caught.value.what == what
