"""The optimizers that cannot work in gptzoo by their construction, and options that are not offered, with reasons."""

from __future__ import annotations

from collections.abc import Mapping

_CLOSURE = (
    "it evaluates the loss again inside of a step, by a closure. gptzoo computes the gradient of a batch once, from "
    "several micro-batches and devices"
)
_GRAPH = (
    "it estimates second derivatives from the graph of the gradient (create_graph=True), which would keep all "
    "activations of a batch and does not work with gradient accumulation over micro-batches and devices"
)
_BACKWARD = "it updates the weights inside of the backward pass, so gradients can be neither accumulated nor clipped"
_WRAPPER = "it wraps another optimizer, and a spec names one optimizer"
_TORCH = "it is the class of torch that gptzoo's own optimizer {!r} uses"
_REFERENCE = "it is a slower implementation of schedulefree.{}, for comparisons"

REFUSALS: Mapping[str, str] = {
    "heavyball.samwrapper": _CLOSURE,
    "heavyball.splitopt": _WRAPPER,
    "pytorch_optimizer.adahessian": _GRAPH,
    "pytorch_optimizer.adalomo": _BACKWARD,
    "pytorch_optimizer.adammini": "it is constructed from a model with the parameter names of its library's models",
    "pytorch_optimizer.adamw": _TORCH.format("adamw"),
    "pytorch_optimizer.alig": "its step size is computed from the value of the loss, which it evaluates by a closure",
    "pytorch_optimizer.bsam": _CLOSURE,
    "pytorch_optimizer.demo": "it exchanges compressed gradients between processes, in place of gptzoo's all-reduce",
    "pytorch_optimizer.distributedmuon": (
        "it gathers updates between processes itself; use pytorch_optimizer.muon, which computes the same update"
    ),
    "pytorch_optimizer.lbfgs": _CLOSURE,
    "pytorch_optimizer.lomo": _BACKWARD,
    "pytorch_optimizer.lorarite": "it trains pairs of LoRA matrices, which no component of gptzoo has",
    "pytorch_optimizer.magma": _WRAPPER,
    "pytorch_optimizer.muonclip": "it rescales the query and key weights of its library's attention modules",
    "pytorch_optimizer.sara": "it trains sparse increments of a trained model, chosen by the size of its weights",
    "pytorch_optimizer.sgd": _TORCH.format("sgd"),
    "pytorch_optimizer.sophiah": _GRAPH,
    "schedulefree.adamwschedulefreeclosure": _CLOSURE,
    "schedulefree.adamwschedulefreereference": _REFERENCE.format("adamw"),
    "schedulefree.radamschedulefreeclosure": _CLOSURE,
    "schedulefree.sgdschedulefreeclosure": _CLOSURE,
    "schedulefree.sgdschedulefreereference": _REFERENCE.format("sgd"),
}

_KERNEL = "it chooses an implementation, not a result"
_SECOND_ORDER = "it needs a closure"

NOT_OFFERED: Mapping[str, str] = {
    "adamw_betas": "gptzoo's AdamW updates the other parameters",
    "adamw_eps": "gptzoo's AdamW updates the other parameters",
    "adamw_lr": "gptzoo's AdamW updates the other parameters",
    "adamw_wd": "gptzoo's AdamW updates the other parameters",
    "capturable": _KERNEL,
    "compile_step": _KERNEL,
    "differentiable": _KERNEL,
    "ecc": "it changes how weights are stored",
    "fallback_to_finite_differences": _SECOND_ORDER,
    "finite_differences": _SECOND_ORDER,
    "fixed_decay": "weight decay would not follow the schedule",
    "foreach": _KERNEL,
    "fused": _KERNEL,
    "gradient_clipping": "the run spec has clip_norm",
    "hessian_approx": _SECOND_ORDER,
    "hvp_interval": _SECOND_ORDER,
    "maximize": "a loss is minimised",
    "multi_tensor": _KERNEL,
    "norm_type": "the norm that fits depends on the shape of each parameter, which the default heeds",
    "orig_shapes": "it describes parameters of FSDP1",
    "param_ecc": "it changes how weights are stored",
    "promote": _KERNEL,
    "storage_dtype": "it changes how the state is stored",
    "update_clipping": "it is a function",
}
