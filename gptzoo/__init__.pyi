"""The public names, for type checkers and editors; `__init__.py` imports them on first use."""

from gptzoo.checkpoint.folder import load as load
from gptzoo.component import Component as Component
from gptzoo.component import Config as Config
from gptzoo.component import inherited as inherited
from gptzoo.components.attention import MultiHeadAttention as MultiHeadAttention
from gptzoo.components.base import Activation as Activation
from gptzoo.components.base import Architecture as Architecture
from gptzoo.components.base import Attention as Attention
from gptzoo.components.base import Emit as Emit
from gptzoo.components.base import FeedForward as FeedForward
from gptzoo.components.base import Observations as Observations
from gptzoo.components.base import Part as Part
from gptzoo.components.base import Step as Step
from gptzoo.components.base import Sublayer as Sublayer
from gptzoo.components.cache import extend as extend
from gptzoo.components.cache import new_cache as new_cache
from gptzoo.components.norm import Norm as Norm
from gptzoo.components.norm import NormLayer as NormLayer
from gptzoo.components.positional import Positional as Positional
from gptzoo.data.corpora import Corpus as Corpus
from gptzoo.data.tokenizers import Tokenizer as Tokenizer
from gptzoo.errors import DataError as DataError
from gptzoo.errors import Diverged as Diverged
from gptzoo.errors import FolderError as FolderError
from gptzoo.errors import GptzooError as GptzooError
from gptzoo.errors import InputError as InputError
from gptzoo.errors import Interrupted as Interrupted
from gptzoo.errors import PluginError as PluginError
from gptzoo.errors import SpecError as SpecError
from gptzoo.hooks import hookimpl as hookimpl
from gptzoo.interop.importer import Importer as Importer
from gptzoo.interop.importer import Weight as Weight
from gptzoo.interop.settings import Settings as Settings
from gptzoo.model.build import build as build
from gptzoo.model.initialise import initialise as initialise
from gptzoo.reference import Reference as Reference
from gptzoo.reference import by_default as by_default
from gptzoo.registry import load_plugin as load_plugin
from gptzoo.registry import registered as registered
from gptzoo.sampling.generate import generate as generate
from gptzoo.sampling.processors import LogitsProcessor as LogitsProcessor
from gptzoo.sampling.spec import SamplingSpec as SamplingSpec
from gptzoo.spec.files import load_model_spec as load_model_spec
from gptzoo.spec.files import load_run_spec as load_run_spec
from gptzoo.spec.model import Dims as Dims
from gptzoo.spec.model import ModelSpec as ModelSpec
from gptzoo.spec.run import RunSpec as RunSpec
from gptzoo.training.optimizers import Optimizer as Optimizer
from gptzoo.training.schedules import Schedule as Schedule
from gptzoo.training.trainer import train as train

__all__: list[str]
__version__: str
