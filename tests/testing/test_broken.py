"""The kit catches each component that is broken on purpose, by the property meant, and says what is wrong."""

from __future__ import annotations

import pytest
from testing import broken

import gptzoo
import gptzoo.testing
from gptzoo.testing.properties.catalog import PROPERTIES

CASES = [
    (broken.AlwaysSingle, "shapes", ["dtype"]),
    (broken.Acausal, "causality", ["changing token 1", "token 0"]),
    (broken.CausalInEval, "causality", ["changing token 1", "in training"]),
    (broken.OneWay, "noncausal", ["does not see the one right after it"]),
    (broken.BatchNorm, "rows", ["row 2", "row 0"]),
    (broken.SeesPadding, "padding", ["padd", "changes the logits|change the logits"]),
    (broken.CountsPadding, "padding", ["losses blocks.0.ffn.balance"]),
    (broken.MixesDocuments, "documents", ["document 0", "token 3"]),
    (broken.SmallCache, "decoding", ["4 tokens fed as [3, 1]", "at token 3"]),
    (broken.ForgetsTheLast, "decoding", ["2 tokens", "[1, 1]", "at token 1"]),
    (broken.NeverAlone, "decoding", ["2 tokens", "[1, 1]"]),
    (broken.CountsTokens, "state", ["blocks.0.attention.n_tokens", "int"]),
    (broken.HeadsFirst, "state", ["blocks.0.attention.sum", "(33, 2)"]),
    (broken.ReplacesState, "state", ["blocks.0.attention.sum", "replaced"]),
    (broken.HidesState, "reorder", ["[2, 0, 0]"]),
    (broken.CountsInRowZero, "reset", ["row 1"]),
    (broken.RollsBackARing, "rollback", ["says rolls_back"]),
    (broken.PadsPromptsAlone, "engine", ["with tokens that a draft proposes, in 3 rows", "alone it is"]),
    (broken.DeadWeight, "gradients", ["blocks.0.ffn.scale, blocks.1.ffn.scale"]),
    (broken.WrongSlope, "gradcheck", ["the loss has slope", "its gradient says"]),
    (broken.DeadOption, "options", ["'sharpness' changes nothing"]),
    (broken.Unfilled, "building", ["blocks.0.ffn.scale", "nobody initialised"]),
    (broken.PlainTensor, "building", ["blocks.0.ffn.table", "plain tensor attribute"]),
    (broken.SharesModule, "building", ["blocks.0.ffn.drop_before and blocks.0.ffn.drop_after are one module"]),
    (broken.SharesWeight, "building", ["blocks.0.ffn.up.weight and blocks.0.ffn.down.weight", "are one parameter"]),
    (broken.RealAtOnce, "building", ["blocks.0.ffn.table", "constructor"]),
    (broken.ScalarScale, "scalars", ["blocks.0.ffn.scale", "(1,)"]),
    (broken.GlobalNoise, "initial_values", ["global generator"]),
    (broken.SameInAllLayers, "initial_values", ["blocks.0.ffn.scale", "layer 1"]),
    (broken.LateBuffer, "state_dict", ["gains blocks.0.ffn.window after a forward"]),
    (broken.UnsavedNoise, "state_dict", ["not in it"]),
    (broken.RollsDice, "determinism", ["torch.manual_seed(0)"]),
    (broken.TrainsLouder, "modes", ["training and eval mode differ"]),
    (broken.LearnsInForward, "modes", ["blocks.0.ffn.balance", "after_update"]),
    (broken.WritesItsInput, "inputs", ["blocks.0.ffn.forward writes into its argument 0"]),
    (broken.AddsInPlace, "inputs", ["blocks.0.norm.forward writes into its argument 0"]),
    (broken.ShowsScores, "captures", ["is not 0 where the key is after the query"]),
    (broken.ShowsOneHead, "captures", ["(2, 6, 6)", "(2, 4, 6, 6)"]),
    (broken.ShowsNoKeys, "captures", ["no 'k_pos'"]),
    (broken.CountsCalls, "checkpointing", ["the second run is not the first"]),
    (broken.LazyOnMeta, "accounting", ["on meta", "FLOPs"]),
    (broken.WorksMoreWhenDeep, "accounting", ["4 layers", "extrapolated"]),
    (broken.TakesRopeForGranted, "partners", ["beside positional 'none' it raises"]),
    (broken.LowerCase, "round_trip", ["'The quick brown", "comes back as 'the quick"]),
    (broken.OneIdTooMany, "ids", ["eot is 256", "0 to 255"]),
    (broken.KeepsASet, "saving", ["no JSON"]),
    (broken.DividesByZero, "factors", ["a run of 1 steps", "nan"]),
    (broken.CountsSteps, "determinism", ["asked in order"]),
    (broken.WarmsUpFromZero, "warmup", ["the first of 10 warmup steps has the factor 0"]),
    (broken.MatricesOnly, "learning", ["do not move blocks.0.attention.qkv.bias|bias"]),
    (broken.DecaysByItself, "learning_rate", ["with lr 0", "moves blocks.0"]),
    (broken.ForgetsItsMomentum, "resuming", ["saved after 3 steps and resumed", "off by"]),
    (broken.DeadDecay, "options", ["'weight_decay' changes nothing"]),
    (broken.Strict, "processing", ["no token possible"]),
    (broken.BatchTemperature, "rows", ["row 0 alone"]),
    (broken.InPlacePenalty, "inputs", ["writes into the logits"]),
    (broken.KeepsHistory, "determinism", ["after other calls"]),
    (broken.Shuffled, "documents", ["gives other documents"]),
    (broken.SameFingerprint, "fingerprint", ["n_documents=", "not the fingerprint"]),
    (broken.NumbersOnly, "logging", ["TypeError", "list"]),
    (broken.HoldsTheFuture, "resuming", ["start returns 6"]),
    (broken.KnowsOneEnd, "ending", ["KeyError", "diverged"]),
    (broken.SamplesRows, "inert", ["random numbers are others"]),
    (broken.LosesErrors, "running", ["'on stderr', which is not in its log", "on stdout"]),
    (broken.TriesAgain, "codes", ["a job that exits with 3 was run 2 times"]),
    (broken.ShellCodes, "codes", ["SIGKILL", "137; -9 would be right"]),
    (broken.KillsAtOnce, "stopping", ["told to stop ends with -9"]),
    (broken.LeavesThemRunning, "leaving", ["goes on after the end"]),
]
SLOW = [
    (broken.TakesRopeForGranted, "all_partners", ["beside positional", "it raises"]),
    (broken.AsksForANumber, "compiling", ["breaks into", "item"]),
    (broken.CompilesByLayer, "compiling", ["a Python number that differs by layer"]),
    (broken.AsksForANumber, "exporting", ["does not take a step", "broken.py:"]),
    (broken.CountsRows, "exporting", ["another program than with 2 rows", "len(x)"]),
    (broken.KnowsItsRoom, "exporting", ["at position 4 of 11", "len(x)"]),
    (broken.ShortCut, "exporting", ["computes otherwise"]),
    (broken.KeepsAnotherState, "exporting", ["leaves another state"]),
    (broken.ScalarScale, "sharding", ["sharded, it raises", "scalar"]),
    (broken.ForgetsASum, "tensor_parallel", ["shared by two processes, the gradient of blocks.0.ffn.scale is off"]),
    (broken.InHalfPrecision, "tables", ["on `local`: "]),
]


def ids(case: object) -> str:
    return getattr(case, "name", case) if isinstance(case, type | str) else ""  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("component", "name", "words"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW)],
    ids=ids,
)
def test_the_kit_finds_what_is_broken(component: type[gptzoo.Component], name: str, words: list[str]) -> None:
    (verdict,) = gptzoo.testing.check(component, only=[name])
    assert verdict.outcome == "failed"
    for word in words:
        assert any(one in verdict.text for one in word.split("|")), verdict.text


def test_there_is_a_broken_component_for_every_property() -> None:
    caught = {(component.kind, name) for component, name, _ in CASES + SLOW}
    for one in PROPERTIES:
        assert {(kind, one.name) for kind in one.kinds} & caught, one.name
    assert {component for component, *_ in CASES + SLOW} == set(broken.components())


@pytest.fixture(autouse=True)
def _registry(fresh_registry: object) -> None:
    """The built-ins alone, so that what is installed beside them changes nothing here."""
    return
