"""The kit finds the fault of every component that is broken on purpose, and reports it by the right property."""

from __future__ import annotations

import pytest
from testing import broken_at_size
from testing.broken import attention, data, executors, ffn, ffn_execution, other_model_parts, sampling, training

import gptzoo
import gptzoo.testing
from gptzoo.testing.properties.catalog import PROPERTIES

# The broken component, the property that finds its fault, and parts of the counterexample ("a|b" is either of the two).
CASES = [
    (other_model_parts.ReturnsFloat32, "shapes", ["dtype"]),
    (attention.HeadsAsWideAsTheModel, "shapes", ["with d_head 16", "n_heads * dims.d_head"]),
    (attention.NotCausal, "causality", ["changing token 1", "token 0"]),
    (attention.CausalInEvalOnly, "causality", ["changing token 1", "in training"]),
    (attention.AlwaysCausal, "noncausal", ["does not attend to the next token"]),
    (other_model_parts.BatchNorm, "rows", ["row 2", "row 0"]),
    (attention.AttendsToPadding, "padding", ["padd", "changes the logits|change the logits"]),
    (ffn.LossCountsPadding, "padding", ["losses blocks.0.ffn.balance"]),
    (attention.IgnoresDocuments, "documents", ["document 0", "token 3"]),
    (attention.CacheTooSmall, "decoding", ["4 tokens fed in chunks of [3, 1]", "at token 3"]),
    (ffn.NoStateForPreviousToken, "decoding", ["2 tokens", "[1, 1]", "at token 1"]),
    (other_model_parts.EmbedsMeanPosition, "decoding", ["2 tokens", "[1, 1]"]),
    (attention.CounterInState, "state", ["blocks.0.attention.n_tokens", "int"]),
    (attention.StateNotBatchFirst, "state", ["blocks.0.attention.sum", "(33, 2)"]),
    (attention.ReplacesState, "state", ["replaces the state blocks.0.attention.sum"]),
    (attention.StateOnModule, "reorder", ["[2, 0, 0]"]),
    (attention.CountsTokensInRowZero, "reset", ["row 1"]),
    (attention.RollbackOfRingBuffer, "rollback", ["it sets supports_rollback"]),
    (attention.PaddingInPrefillOnly, "engine", ["with a draft model, in 3 slots", "alone it is"]),
    (ffn.UnusedParameter, "gradients", ["blocks.0.ffn.scale, blocks.1.ffn.scale"]),
    (ffn.SkipsUndeclared, "gradients", ["no gradient to blocks.", ".ffn.scale", "set may_skip_parameters = True"]),
    (other_model_parts.WrongGradient, "gradcheck", ["the loss has slope", "its gradient gives"]),
    (ffn.FusedRowsMissing, "fused_matrices", ["up.weight with 24 rows in its blocks", "has 32 rows"]),
    (ffn.FusedNotDeclared, "fused_matrices", ["blocks.0.ffn.up.weight holds 2 matrices", "does not declare"]),
    (ffn.UnusedOption, "options", ["'sharpness' changes nothing"]),
    (ffn.UninitialisedParameter, "building", ["blocks.0.ffn.scale", "not initialised", 'generator=rng("scale")']),
    (ffn.ForgetsWritesResidual, "residual", ["blocks.0.ffn.down", "self.down.writes_residual = True"]),
    (attention.ForgetsWritesResidualToo, "residual", ["blocks.0.attention.out", "self.out.writes_residual = True"]),
    (ffn.TensorAttribute, "building", ["blocks.0.ffn.table", "tensors as plain attributes"]),
    (ffn.SharedModule, "building", ["blocks.0.ffn.drop_before and blocks.0.ffn.drop_after are one module"]),
    (ffn.SharedWeight, "building", ["blocks.0.ffn.up.weight and blocks.0.ffn.down.weight", "are the same parameter"]),
    (ffn.ComputesInConstructor, "building", ["blocks.0.ffn.table", "constructor"]),
    (ffn.ScalarParameter, "scalars", ["blocks.0.ffn.scale", "(1,)"]),
    (ffn.GlobalGenerator, "initial_values", ["global generator"]),
    (ffn.SameValuesInAllLayers, "initial_values", ["blocks.0.ffn.scale", "layer 1"]),
    (ffn.BufferFromForward, "state_dict", ["gains blocks.0.ffn.window after a forward pass"]),
    (ffn.RandomValueNotSaved, "state_dict", ["not in the state dict"]),
    (ffn_execution.PythonRandom, "determinism", ["torch.manual_seed(0)"]),
    (ffn_execution.ScalesInTraining, "modes", ["training and eval mode differ"]),
    (ffn_execution.UpdatesBufferInForward, "modes", ["blocks.0.ffn.balance", "after_optimizer_step"]),
    (ffn_execution.WritesToInput, "inputs", ["blocks.0.ffn.forward writes to its argument 0"]),
    (other_model_parts.AddsInPlace, "inputs", ["blocks.0.norm.forward writes to its argument 0"]),
    (attention.CapturesScores, "captures", ["is not 0 although the key is after the query"]),
    (attention.CapturesMeanOfHeads, "captures", ["(2, 6, 6)", "(2, 4, 6, 6)"]),
    (attention.CapturesNoKeyPositions, "captures", ["no 'k_pos'"]),
    (ffn_execution.AlternatingSign, "checkpointing", ["recomputing a block does not repeat its first run"]),
    (ffn_execution.SkipsWorkOnMeta, "accounting", ["on the meta device", "FLOPs"]),
    (ffn_execution.WorkGrowsWithLayer, "accounting", ["4 layers", "extrapolated"]),
    (attention.RequiresRopeTables, "partners", ["with positional 'none' it raises"]),
    (data.LowerCase, "round_trip", ["'T' is decoded as 't'"]),
    (data.EotOutsideVocabulary, "ids", ["eot is 256", "0 to 255"]),
    (data.StateIsNotJson, "saving", ["not JSON"]),
    (data.ExportsOtherIds, "export", ["tokenizer_json encodes", "differently from id 0 on"]),
    (data.ExportsNoEndOfText, "export", ["end-of-text token 256 is no special token"]),
    (training.NoFactorForOneStep, "factors", ["a run of 1 steps", "nan"]),
    (training.FactorDependsOnCalls, "determinism", ["when steps are computed in order"]),
    (training.WarmupFromZero, "warmup", ["the first of 1 warmup steps has the factor 0"]),
    (training.MatricesOnly, "learning", ["do not change blocks.0.attention.qkv.bias|bias"]),
    (training.DecayIgnoresSchedule, "learning_rate", ["with lr 0", "changes blocks.0"]),
    (training.MomentumNotSaved, "resuming", ["steps after resuming", "differs by"]),
    (training.EvaluationDisturbsTraining, "evaluation_weights", ["changes the training of"]),
    (training.AverageNotSaved, "evaluation_weights", ["after resuming", "differ"]),
    (training.UnusedWeightDecay, "options", ["'weight_decay' changes nothing"]),
    (sampling.ExcludesAllTokens, "processing", ["no token possible"]),
    (sampling.ScalesByBatch, "rows", ["row 0 alone"]),
    (sampling.WritesToLogits, "inputs", ["writes to the logits"]),
    (sampling.DependsOnEarlierCalls, "determinism", ["after other calls"]),
    (data.ShuffledEveryTime, "documents", ["gives other documents"]),
    (data.FingerprintIgnoresOptions, "fingerprint", ["n_documents=", "not the fingerprint"]),
    (data.TargetOutsideVocabulary, "form", ["targets are from", "outside the 5 ids"]),
    (training.NumbersOnly, "logging", ["TypeError", "list"]),
    (training.ReportsFutureStep, "resuming", ["start() returns 6"]),
    (training.UnknownStatus, "ending", ["KeyError", "diverged"]),
    (training.DrawsRandomNumbers, "inert", ["random number generator"]),
    (executors.DropsStderr, "running", ["'on stderr', which is not in its log", "on stdout"]),
    (executors.RetriesFailedJobs, "codes", ["a job that exits with 3 was run 2 times"]),
    (executors.ShellExitCodes, "codes", ["SIGKILL", "137; expected -9"]),
    (executors.AlwaysKills, "stopping", ["a stopped job ends with -9"]),
    (executors.LeavesJobsRunning, "leaving", ["still running after the end"]),
]
SLOW_CASES = [
    (ffn.GrowsWithWidth, "width_transfer", ["with wider heads", "at width 32", "as width^"]),
    (other_model_parts.ShrinksWithWidth, "width_transfer", ["change the logits by", "learns more slowly"]),
    (attention.RequiresRopeTables, "all_partners", ["with positional", "it raises"]),
    (ffn_execution.GraphBreak, "compiling", ["breaks into", "item"]),
    (ffn_execution.OneGraphPerLayer, "compiling", ["a Python number that differs by layer"]),
    (ffn_execution.GraphBreak, "exporting", ["cannot export a decode step", "ffn_execution.py:"]),
    (ffn_execution.BatchSizeAsNumber, "exporting", ["is not valid for 2 rows", "len(x)"]),
    (attention.CacheLengthAsNumber, "exporting", ["at position 4 of 11", "len(x)"]),
    (ffn_execution.SkipsWorkWhenCompiled, "exporting", ["gives another output"]),
    (ffn_execution.SkipsWorkWhenCompiled, "eject", ["the ejected file does not run"]),
    (attention.OtherStateWhenCompiled, "exporting", ["leaves another state"]),
    (ffn.ScalarParameter, "sharding", ["with FSDP2 on two ranks, it raises", "scalar"]),
    (
        ffn.WrongTensorParallelPlan,
        "tensor_parallel",
        ["with tensor parallelism on two ranks, the gradient of blocks.0.ffn.scale differs by"],
    ),
    (executors.ChangesPrecision, "tables", ["on `local`: "]),
]
BROKEN = {
    member
    for module in (attention, data, executors, ffn, ffn_execution, other_model_parts, sampling, training)
    for member in vars(module).values()
    if isinstance(member, type)
    and issubclass(member, gptzoo.Component)
    and member.__module__ == module.__name__
    and member.name
}


def case_id(value: object) -> str:
    if isinstance(value, str):
        return value
    return value.name if isinstance(value, type) and issubclass(value, gptzoo.Component) else ""


@pytest.mark.parametrize(
    ("component", "property_name", "texts"),
    [*CASES, *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW_CASES)],
    ids=case_id,
)
def test_the_property_finds_the_fault_of_a_broken_component(
    component: type[gptzoo.Component], property_name: str, texts: list[str]
) -> None:
    (verdict,) = gptzoo.testing.check(component, only=[property_name])
    assert verdict.outcome == "failed"
    for text in texts:
        assert any(alternative in verdict.text for alternative in text.split("|")), verdict.text


def test_every_property_finds_a_broken_component_and_every_broken_component_is_used() -> None:
    found = {(component.kind, name) for component, name, _ in CASES + SLOW_CASES}
    found |= {(entry.wrong.kind, entry.property) for entry in broken_at_size.TABLE}
    for prop in PROPERTIES:
        assert {(kind, prop.name) for kind in prop.kinds} & found, prop.name
    assert {component for component, *_ in CASES + SLOW_CASES} == BROKEN


@pytest.fixture(autouse=True)
def _builtin_registry(fresh_registry: object) -> None:
    """Use only the built-in components, whatever plugins are installed."""
