"""The files that leaderboards take, from predictions in the order of their list."""

import json
from pathlib import PurePosixPath
from typing import List, Sequence

from .dumps import DumpError, Predictions

ACTIONS = 100  # that EPIC-Kitchens takes of a video


def something_v1(predictions: Predictions, labels: Sequence[str]) -> str:
    """Something-Something V1: ``id;label text`` per line.

    Args:
        predictions (Predictions): Of the official test list.
        labels (Sequence[str]): The names of the classes, by their numbers.

    Raises:
        DumpError: If there are not as many names as classes.
    """
    if predictions.scores.shape[1] != len(labels):
        raise DumpError(
            f'expected {predictions.scores.shape[1]} classes, '
            f'as the dumps have, got {len(labels)}.'
        )
    best = predictions.scores.argmax(1).tolist()
    return ''.join(
        f'{video};{labels[k]}\n' for video, k in zip(_videos(predictions), best)
    )


def something_v2(predictions: Predictions) -> str:
    """Something-Something V2: ``id;p1;p2;p3;p4;p5``, the five most probable.

    Args:
        predictions (Predictions): Of the official test list.
    """
    scores = predictions.scores
    best = scores.topk(min(5, scores.shape[1])).indices.tolist()
    return ''.join(
        f'{video};{";".join(map(str, k))}\n'
        for video, k in zip(_videos(predictions), best)
    )


def epic_kitchens(verbs: Predictions, nouns: Predictions) -> str:
    """The JSON of EPIC-Kitchens' action recognition.

    An action is as probable as its verb times its noun.

    Args:
        verbs (Predictions): Of the official test list.
        nouns (Predictions): The same for nouns.
    """
    results = {}
    for video, verb, noun in zip(_videos(verbs), verbs.scores, nouns.scores):
        # [verbs, nouns]
        actions = verb[:, None] * noun
        best = actions.flatten().topk(min(ACTIONS, actions.numel()))
        results[video] = dict(
            verb=dict(enumerate(verb.tolist())),
            noun=dict(enumerate(noun.tolist())),
            action={
                f'{k // len(noun)},{k % len(noun)}': p
                for p, k in zip(best.values.tolist(), best.indices.tolist())
            },
        )
    # Supervision levels: pretraining, labels and data of this challenge
    levels = dict(sls_pt=2, sls_tl=3, sls_td=3)
    head = dict(version='0.2', challenge='action_recognition', **levels)
    return json.dumps(dict(head, results=results)) + '\n'


def _videos(predictions: Predictions) -> List[str]:
    return [PurePosixPath(name).stem for name in predictions.names]
